package jail

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"banmesh/store"
)

// bookKey is where the book is kept beside the set.
const bookKey = "enforce/feed" // its name in the files of earlier releases

// rounding is how far fail2ban's times of one ban may lie apart: it rounds them to the second.
const rounding = time.Second

// book is what a human unbanned in the jail. It is durable, so that neither a restart of the agent nor one of fail2ban forgets
// it.
type book struct {
	set replicatedSet

	mu   sync.Mutex // held during the save, so that the last change is the one kept
	page page
}

// page is the book in its saved form.
type page struct {
	// Unbanned prefixes, each with the start of the newest offence known at that time.
	Unbanned map[netip.Prefix]store.Millis `json:"unbanned,omitempty"`
	Emptied  store.Millis                  `json:"emptied,omitempty"` // when all was unbanned by hand
	Removed  store.Millis                  `json:"removed,omitempty"` // when the Enforcer itself last emptied the jail
}

func (b *book) load(set replicatedSet) {
	b.set = set
	if raw, ok := set.Meta(bookKey); ok {
		_ = json.Unmarshal(raw, &b.page) // an unreadable book is dropped: its prefixes are fed again
	}
	if b.page.Unbanned == nil {
		b.page.Unbanned = make(map[netip.Prefix]store.Millis)
	}
}

// holds reports whether an operator's unban, of that one prefix or of all, keeps an offence that started then from being fed.
func (b *book) holds(prefix netip.Prefix, newest store.Millis) (one, all bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	known, ok := b.page.Unbanned[prefix]
	return ok && newest <= known, newest <= b.page.Emptied
}

func (b *book) unbanned(ctx context.Context, prefix netip.Prefix, newest store.Millis) error {
	return b.change(ctx, func(p *page) { p.Unbanned[prefix] = max(p.Unbanned[prefix], newest) })
}

func (b *book) emptied(ctx context.Context, at store.Millis) error {
	return b.change(ctx, func(p *page) { p.Emptied = max(p.Emptied, at) })
}

func (b *book) remove(ctx context.Context, at time.Time) error {
	return b.change(ctx, func(p *page) { p.Removed = store.At(at) })
}

// removedSince reports whether the Enforcer has emptied the jail since then.
func (b *book) removedSince(t time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return store.At(t) <= b.page.Removed
}

// keep drops the prefixes that still rejects: their bans are over, or newer offences have come.
func (b *book) keep(ctx context.Context, still func(netip.Prefix) bool) error {
	b.mu.Lock()
	idle := true
	for prefix := range b.page.Unbanned {
		idle = idle && still(prefix)
	}
	b.mu.Unlock()
	if idle {
		return nil
	}
	return b.change(ctx, func(p *page) {
		maps.DeleteFunc(p.Unbanned, func(prefix netip.Prefix, _ store.Millis) bool { return !still(prefix) })
	})
}

// change saves the book before the change takes effect.
func (b *book) change(ctx context.Context, edit func(*page)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := b.page
	next.Unbanned = maps.Clone(b.page.Unbanned)
	edit(&next)
	raw, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("remember what was unbanned by hand: %w", err)
	}
	if err := b.set.SaveMeta(ctx, bookKey, raw); err != nil {
		return fmt.Errorf("remember what was unbanned by hand: %w", err)
	}
	b.page = next
	return nil
}
