package web

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"banmesh/store"
)

const (
	// restFor is how long a feed is not rendered again, whatever happens: during a flood of bans, repeated requests then cost
	// no more than that.
	restFor = time.Second

	// lookAgain is the age at which a feed is checked although no change was reported: a never-ban list that ran out and
	// limits that count by the minute change it without an event. The check runs in the background.
	lookAgain = time.Minute

	// keepFor is how long a feed is kept after its last request. keepBytes bounds all kept bodies together; the least
	// recently requested goes first.
	keepFor   = 10 * time.Minute
	keepBytes = 24 << 20
)

// feeds answers the feeds and keeps what it has rendered, so that callers that ask for changes are answered at once. It is
// safe for concurrent use.
type feeds struct {
	set  replicatedSet
	now  func() time.Time
	most int // keepBytes

	changes atomic.Uint64 // counts changes of the set that feeds may show
	again   chan variant  // feeds for keep to check again
	pages   pages

	// writing is held while a feed is rendered, so that only one at a time takes the memory and time.
	writing chan struct{}

	mu   sync.Mutex
	kept map[variant]*edition
}

// edition is a rendered feed. Everything but the body stays when the body is released, so that checking for changes stays
// cheap.
type edition struct {
	etag     string
	modified time.Time // the content is at least this old; whole seconds
	size     int       // of the body
	body     []byte    // immutable; nil once released

	changes uint64    // feeds.changes when the set was read
	read    time.Time // when the set was read
	used    time.Time
	looking bool // keep is to check it again
}

// newFeeds lets one feed be written at a time (writing): each takes a walk over the whole set, and many
// readers at once would stop the agent.
func newFeeds(set replicatedSet, now func() time.Time) *feeds {
	return &feeds{
		set: set, now: now, most: keepBytes, again: make(chan variant, 64), writing: make(chan struct{}, 1),
		kept: make(map[variant]*edition),
	}
}

// changed notes a change.
func (f *feeds) changed(c store.Change) {
	if c.More > 0 || slices.ContainsFunc(c.Events, func(e store.Event) bool { return feedsShow(e.Kind) }) {
		f.changes.Add(1)
	}
}

// feedsShow reports whether an event may change a feed.
func feedsShow(k store.EventKind) bool {
	switch k {
	case store.EventPlaced, store.EventFreeze, store.EventThaw:
		return false
	}
	return true
}

// get returns the current feed as a copy, with its body if needBody is set, otherwise perhaps without.
func (f *feeds) get(ctx context.Context, v variant, needBody bool) (edition, error) {
	if e, ok := f.fresh(v, needBody); ok {
		return e, nil
	}
	select {
	case f.writing <- struct{}{}:
	case <-ctx.Done():
		return edition{}, ctx.Err()
	}
	defer func() { <-f.writing }()
	if e, ok := f.fresh(v, needBody); ok { // somebody rendered it meanwhile
		return e, nil
	}
	return f.write(v)
}

// fresh returns the kept feed unless it must be rendered again.
func (f *feeds) fresh(v variant, needBody bool) (edition, bool) {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.kept[v]
	if e == nil || needBody && e.body == nil {
		return edition{}, false
	}
	age := now.Sub(e.read)
	if age < 0 || age >= restFor && e.changes != f.changes.Load() {
		return edition{}, false
	}
	e.used = now
	if age >= lookAgain && !e.looking {
		select {
		case f.again <- v:
			e.looking = true
		default:
		}
	}
	return *e, true
}

// write renders a feed, with writing held.
func (f *feeds) write(v variant) (edition, error) {
	changes, now := f.changes.Load(), f.now()
	body, etag, err := render(f.set, v)
	if err != nil {
		return edition{}, fmt.Errorf("write the feed: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// A tag identifies the content; a date can do so only if no two editions share it.
	modified := now.Truncate(time.Second)
	if old := f.kept[v]; old != nil {
		switch {
		case old.etag == etag:
			modified = old.modified
		case !modified.After(old.modified):
			modified = old.modified.Add(time.Second)
		}
	}
	e := &edition{etag: etag, modified: modified, size: len(body), body: body, changes: changes, read: now, used: now}
	f.kept[v] = e
	out := *e
	f.shrink()
	return out, nil
}

// shrink releases bodies until the rest fits the bound, with mu held.
func (f *feeds) shrink() {
	for {
		total := 0
		var last *edition
		for _, e := range f.kept {
			total += len(e.body)
			if e.body != nil && (last == nil || e.used.Before(last.used)) {
				last = e
			}
		}
		if total <= f.most || last == nil {
			return
		}
		last.body = nil
	}
}

// keep checks feeds again that have not changed for long, and drops those that nobody requests, until ctx ends.
func (f *feeds) keep(ctx context.Context) {
	ticker := time.NewTicker(keepFor / 10)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case v := <-f.again:
			f.lookAgain(ctx, v)
		case <-ticker.C:
			f.drop()
		}
	}
}

func (f *feeds) lookAgain(ctx context.Context, v variant) {
	select {
	case f.writing <- struct{}{}:
		defer func() { <-f.writing }()
	case <-ctx.Done():
		return
	}
	if _, err := f.write(v); err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.kept, v) // the next request reports the error
	}
}

// drop forgets feeds that nobody has asked for lately; they are written anew when somebody does.
func (f *feeds) drop() {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	for v, e := range f.kept {
		if now.Sub(e.used) >= keepFor {
			delete(f.kept, v)
		}
	}
}
