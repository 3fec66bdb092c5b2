package commit

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"banmesh/store"
)

// hungSet is a set whose disk does not answer while it is hung.
type hungSet struct {
	*fakeSet
	mu   sync.Mutex
	hung chan struct{} // Place and Unplace wait until it is closed, or their caller gives up
}

func (s *hungSet) wait(ctx context.Context) error {
	s.mu.Lock()
	hung := s.hung
	s.mu.Unlock()
	if hung == nil {
		return nil
	}
	select {
	case <-hung:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *hungSet) Place(ctx context.Context, ps []netip.Prefix, until store.Millis) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.fakeSet.Place(ctx, ps, until)
}

func (s *hungSet) Unplace(ctx context.Context, ps []netip.Prefix) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.fakeSet.Unplace(ctx, ps)
}

func (s *hungSet) UnplaceOwn(ctx context.Context, ps []netip.Prefix) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.fakeSet.UnplaceOwn(ctx, ps)
}

func (s *hungSet) hang() (thaw func()) {
	c := make(chan struct{})
	s.mu.Lock()
	s.hung = c
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		s.hung = nil
		s.mu.Unlock()
		close(c)
	}
}

// Nothing waits for the disk while it holds the conductor's lock: what is placed is written before, what follows from a
// commit after.
func TestNoLockIsHeldWhileTheDiskHangs(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		set := &hungSet{}
		a := newAgent(t, s, "a", func(c *Config) { set.fakeSet = c.Set.(*fakeSet); c.Set = set })
		defer a.halt()
		pass(time.Minute)

		thaw := set.hang()
		a.set.ban(time.Hour, many(2)...)
		a.Notify(Addition)
		pass(30 * time.Second)
		if n := s.tried("begin"); n != 0 {
			t.Errorf("%d edits were begun that could not be recorded", n)
		}
		a.lead(false) // as an agent whose store is silent does
		pass(time.Second)
		if work := a.lastWork(); work != "0  0" {
			t.Errorf("it does %q", work)
		}
		thaw()
		a.lead(true)
		pass(time.Minute)
		wantTenant(t, s, many(2)...)

		unlocked := func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.open == 0 && s.holder == 0 }
		a.set.unban(false, many(1)...)
		s.mu.Lock()
		s.after = map[string]func(){"apply": func() { thaw = set.hang() }}
		s.mu.Unlock()
		a.Notify(Removal)
		pass(4 * time.Second) // its window, and less than the store is given to answer
		wantTenant(t, s, many(2)[1:]...)
		if !unlocked() {
			t.Error("the lock is held while it is written down what has left the tenant")
		}
		s.mu.Lock()
		s.after = nil
		s.mu.Unlock()
		thaw()
		pass(time.Minute)
		wantTenant(t, s, many(2)[1:]...)
	})
}
