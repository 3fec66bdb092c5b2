package invite

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// An operator sets up machines by the dozen; each open token is a secret that may leak.
	maxOpen = 256                // open invitations
	maxKept = 1024               // all that are remembered
	keepFor = 7 * 24 * time.Hour // after the end, so that a late or second machine is told why
)

// Invitation is what the member stores about a token.
type Invitation struct {
	ID    string    `json:"id"`
	Name  string    `json:"name,omitempty"` // that the machine must take
	Made  time.Time `json:"made"`
	Until time.Time `json:"until"`
	// Host is the seed of the member's key, Client the public key of the token's holder.
	// Kept, because the member must show this key; with it alone nobody can show the other one.
	Host   []byte    `json:"host"`
	Client []byte    `json:"client"`
	UsedAt time.Time `json:"used_at,omitzero"`
	UsedBy string    `json:"used_by,omitempty"` // the name that the machine took
	From   string    `json:"from,omitempty"`    // the address that it came from
	// Cancelled is when it was taken back. Setting Until instead would let the token in again if the clock is set back.
	Cancelled time.Time `json:"cancelled,omitzero"`
	// Machine is the hash of Request.Machine of the machine that used the token.
	Machine []byte `json:"machine,omitempty"`
}

func (i *Invitation) used() bool { return !i.UsedAt.IsZero() }

// open reports whether the token still admits a machine.
func (i *Invitation) open(now time.Time) bool {
	return !i.used() && i.Cancelled.IsZero() && now.Before(i.Until)
}

// book holds a member's invitations. Every change is on disk before it counts.
type book struct {
	save func(context.Context, []byte) error
	now  func() time.Time

	// writer is held while changing the book, including the write. mu is held only for a moment, after the write, so that
	// lookups never wait for the disk. The order is writer, mu.
	writer chan struct{}
	mu     sync.Mutex
	all    []Invitation
}

func newBook(save func(context.Context, []byte) error, now func() time.Time) *book {
	return &book{save: save, now: now, writer: make(chan struct{}, 1)}
}

// write waits for the turn to change the book; done ends the turn.
func (b *book) write(ctx context.Context) (done func(), err error) {
	select {
	case b.writer <- struct{}{}:
		return func() { <-b.writer }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("another change of the invitations is not on the disk yet: %w", ctx.Err())
	}
}

// list returns a copy of all invitations.
func (b *book) list() []Invitation {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.all)
}

// load restores the saved invitations, without those that cannot be read.
func (b *book) load(saved []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(saved) == 0 {
		return nil
	}
	if err := json.Unmarshal(saved, &b.all); err != nil {
		return fmt.Errorf("read the invitations: %w", err)
	}
	b.all = slices.DeleteFunc(b.all, func(i Invitation) bool {
		return len(i.Host) != ed25519.SeedSize || len(i.Client) != ed25519.PublicKeySize
	})
	return nil
}

// change saves the invitations that f returns, without the outdated ones. It is called between write and done.
func (b *book) change(ctx context.Context, f func(all []Invitation) ([]Invitation, error)) error {
	next, err := f(b.list())
	if err != nil {
		return err
	}
	now := b.now()
	next = slices.DeleteFunc(next, func(i Invitation) bool { return now.Sub(i.Until) > keepFor })
	if n := len(next) - maxKept; n > 0 {
		next = next[n:] // drop the oldest: they are in the order in which they were made
	}
	saved, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := b.save(ctx, saved); err != nil {
		return fmt.Errorf("keep the invitations: %w", err)
	}
	b.mu.Lock()
	// After the save: what is not on the disk must not admit anybody, and what is must not admit twice.
	b.all = next
	b.mu.Unlock()
	return nil
}

// add stores a token's invitation.
func (b *book) add(ctx context.Context, t *Token) error {
	done, err := b.write(ctx)
	if err != nil {
		return err
	}
	defer done()
	now := b.now()
	return b.change(ctx, func(all []Invitation) ([]Invitation, error) {
		open := 0
		for _, i := range all {
			if i.open(now) {
				open++
			}
		}
		if open >= maxOpen {
			return nil, fmt.Errorf("%d invitations are open, the most there may be: wait until some have been used or have ended", open)
		}
		return append(all, Invitation{
			ID: t.keys.id, Name: t.Name, Made: now, Until: t.Until,
			Host: t.keys.host.Seed(), Client: t.keys.client.Public().(ed25519.PublicKey),
		}), nil
	})
}

// cancel ends the open invitations for a name, or the one with that id, and returns them.
func (b *book) cancel(ctx context.Context, which string) (ended []Invitation, err error) {
	done, err := b.write(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	now := b.now()
	err = b.change(ctx, func(all []Invitation) ([]Invitation, error) {
		for n := range all {
			if i := &all[n]; i.open(now) && (i.ID == which || i.Name == which) {
				i.Cancelled = now
				ended = append(ended, *i)
			}
		}
		if len(ended) == 0 {
			return nil, fmt.Errorf("no open invitation has the name or id %q: banmesh invite --list shows them", which)
		}
		return all, nil
	})
	return ended, err
}

// get returns the invitation with an id.
func (b *book) get(id string) (Invitation, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := index(b.all, id); i >= 0 {
		return b.all[i], true
	}
	return Invitation{}, false
}

func index(all []Invitation, id string) int {
	return slices.IndexFunc(all, func(i Invitation) bool { return i.ID == id })
}

// empty lets the host turn everybody away without a handshake while nobody is invited.
func (b *book) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.all) == 0
}

var errGone = errors.New("there is no such invitation any more")

// use marks an invitation as used by a machine. The same machine may use it again, nobody else. It asks fit first.
func (b *book) use(ctx context.Context, id string, r Request, from string, fit func(i Invitation) (name string, err error)) (string, error) {
	done, err := b.write(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	// Read again under writer: another stream may have used the token since the handshake.
	i, there := b.get(id)
	if !there {
		return "", errGone
	}
	now := b.now()
	machine := sha256.Sum256([]byte(r.Machine))
	again := i.used() && bytes.Equal(i.Machine, machine[:])
	switch {
	case i.used() && !again:
		return "", refuse(CodeUsed, "the token was used by %s at %s: a token is good for one machine; make another one with banmesh invite", i.UsedBy, i.UsedAt.UTC().Format(time.DateTime+" UTC"))
	case !i.Cancelled.IsZero():
		return "", refuse(CodeExpired, "the token was taken back at %s: make another one with banmesh invite", i.Cancelled.UTC().Format(time.DateTime+" UTC"))
	case !now.Before(i.Until):
		return "", refuse(CodeExpired, "the token ended at %s: make another one with banmesh invite", i.Until.UTC().Format(time.DateTime+" UTC"))
	case again:
		return i.UsedBy, nil
	}
	name, err := fit(i)
	if err != nil {
		return "", err
	}
	return name, b.change(ctx, func(all []Invitation) ([]Invitation, error) {
		at := index(all, id)
		all[at].UsedAt, all[at].UsedBy, all[at].From, all[at].Machine = now, name, from, machine[:]
		return all, nil
	})
}
