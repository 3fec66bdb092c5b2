package commit

import (
	"context"
	"sync"
	"testing"
	"time"

	"banmesh/mesh/conductor"
	"banmesh/store"
)

// TestRemovalByHandOutlivesTheLeaderThatSawIt: the next leader has read running
// long before, and knows of the removal by what the former one told.
func TestRemovalByHandOutlivesTheLeaderThatSawIt(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a, b := newAgent(t, s, "a"), newAgent(t, s, "b")
		defer a.halt()
		defer b.halt()
		b.lead(false)
		a.set.ban(time.Hour, many(1)...)
		pass(time.Minute)
		wantTenant(t, s, many(1)...)
		b.set.merge(a.set)

		s.byHand(nil, many(1))
		pass(6 * time.Minute) // the leader looks each five
		told := a.RemovedByHand()
		if len(told) != 1 {
			t.Fatalf("a tells of %v, want the one that was removed", told)
		}
		b.HeardByHand(told)
		a.lead(false)
		b.lead(true)
		pass(5 * time.Minute)
		wantTenant(t, s)
		if n := warned(b.Status(), "by hand"); n != 1 {
			t.Errorf("b shows %d removed by hand, want 1", n)
		}
		pass(10 * time.Minute)
		wantTenant(t, s, many(1)...)
	})
}

// A tenant that is gone, or has lost most of what was in it at once, was not
// edited by a hand: a backup was restored, or a conductor replaced.
func TestAResetIsPutBackWithTheNextCommit(t *testing.T) {
	for name, c := range map[string]struct {
		bans, gone int
		emptied    bool
		reset      bool
	}{
		"the member gone":       {bans: 3, gone: 3, emptied: true, reset: true},
		"all of many":           {bans: 30, gone: 30, reset: true},
		"more than half":        {bans: 30, gone: 16, reset: true},
		"half":                  {bans: 30, gone: 15},
		"most of a few by hand": {bans: 4, gone: 3},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *site) {
				a := newAgent(t, s, "a")
				defer a.halt()
				a.set.ban(100*24*time.Hour, many(c.bans)...)
				pass(time.Minute)
				s.byHand(nil, many(c.gone))
				s.mu.Lock()
				s.emptied = c.emptied
				s.mu.Unlock()
				pass(6 * time.Minute) // the leader looks each five
				if n := len(s.tenant()); (n == c.bans) != c.reset {
					t.Errorf("%d of %d are in the tenant", n, c.bans)
				}
				reset, hand := 0, c.gone
				if c.reset {
					reset, hand = 1, 0
				}
				if a.told(EventReset) != reset || warned(a.Status(), "by hand") != hand {
					t.Errorf("told of %d resets, %d by hand", a.told(EventReset), warned(a.Status(), "by hand"))
				}
			})
		})
	}
}

// Where reading works and edits fail, edits are tried ever more rarely: nothing
// that a reading shows, and no change of leaders, makes them any better.
func TestEditsThatFailAreNotHammered(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		s.breaks(fault{step: "apply", err: conductor.ErrUnreachable, always: true})
		a := newAgent(t, s, "a")
		defer a.halt()
		a.set.ban(time.Hour, many(1)...)
		a.Notify(Addition)
		failed := false     // said while it led
		for range 10 * 60 { // it leads whenever it is able, as an only member does
			able, _ := a.Able()
			a.lead(able)
			pass(time.Second)
			failed = failed || a.Status().LastError != ""
		}
		if n := s.tried("apply"); n < 8 || n > 25 {
			t.Errorf("%d edits were tried in ten minutes", n)
		}
		if !failed {
			t.Error("status never told of the failure")
		}
		s.repair()
		for range 3 * 60 {
			able, _ := a.Able()
			a.lead(able)
			pass(time.Second)
		}
		if len(s.tenant()) != 1 {
			t.Error("not committed after the conductor was well again")
		}
	})
}

// One wrong answer is no hand: what a reading lacks is looked at twice.
func TestOneWrongReadingIsNoHand(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		a.set.ban(100*24*time.Hour, many(3)...)
		pass(time.Minute)
		a.link.lie(many(1))
		pass(6 * time.Minute) // the leader looks each five
		if st := a.Status(); warned(st, "by hand") != 0 || a.told(EventByHand) != 0 || st.Committed != 3 {
			t.Errorf("status = %+v, want nothing removed by hand", st)
		}
	})
}

// What a leader's edits failed for is not shown by a member that leads no more: it makes none that could clear it.
func TestWhoNoLongerLeadsShowsNoFailedEdit(t *testing.T) {
	for _, err := range []error{&conductor.BusyError{Dirty: true}, conductor.ErrUnreachable, conductor.ErrRejected} {
		t.Run(err.Error(), func(t *testing.T) {
			play(t, func(t *testing.T, s *site) {
				a := newAgent(t, s, "a")
				defer a.halt()
				a.set.ban(100*time.Hour, many(1)...)
				s.breaks(fault{step: "begin", err: err, always: true})
				a.Notify(Addition)
				pass(time.Minute)
				if st := a.Status(); st.LastError == "" {
					t.Fatalf("status = %+v, want the failure while it leads", st)
				}
				a.lead(false)
				s.repair()
				pass(time.Hour)
				if st := a.Status(); st.State != StatePending || st.LastError != "" || !st.Able {
					t.Errorf("status = %+v, want what is pending, and no failure", st)
				}
				if got := a.lastWork(); got != "0  0" {
					t.Errorf("tells the others of %q, want nothing", got)
				}
			})
		})
	}
}

// What a hand took out stays out, though the conductor's other node answers next, and though the rest is reset later.
func TestARemovalByHandIsNoResetAtAnotherNode(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		a.set.ban(100*24*time.Hour, many(30)...)
		pass(time.Minute)
		s.mu.Lock()
		s.node = "the other"
		s.mu.Unlock()
		s.byHand(nil, many(1))
		pass(6 * time.Minute) // the leader looks each five
		if n := len(s.tenant()); n != 29 || a.told(EventReset) != 0 || warned(a.Status(), "by hand") != 1 {
			t.Errorf("%d in the tenant, told of %d resets, %d by hand, want 29, 0 and 1", n, a.told(EventReset), warned(a.Status(), "by hand"))
		}
		s.byHand(nil, many(30)[1:])
		pass(6 * time.Minute)
		wantTenant(t, s, many(30)[1:]...)
		if a.told(EventReset) != 1 {
			t.Errorf("told of %d resets, want 1", a.told(EventReset))
		}
	})
}

// A leader that was restarted has records of its own that it does not remember writing. They say what was removed by hand:
// an edit that does not add it after all leaves them.
func TestAnEditLeavesTheRecordsOfAnEarlierRun(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		var a *agent
		var once sync.Once
		a = newAgent(t, s, "a", func(c *Config) {
			c.spread = func(context.Context) error {
				once.Do(func() { // the former leader's word, as the edit is about to begin
					a.HeardByHand(many(1))
					a.Notify(Addition)
				})
				return nil
			}
		})
		if err := a.set.Place(t.Context(), many(1), store.At(time.Now().Add(100*time.Hour))); err != nil {
			t.Fatal(err)
		}
		a.set.ban(100*time.Hour, many(1)...)
		a.Notify(Addition)
		defer a.halt()
		pass(9 * time.Minute)
		wantTenant(t, s)
		if n := len(a.set.Placed()); n != 1 {
			t.Errorf("%d placed, want the record of the run before", n)
		}
		pass(5 * time.Minute)
		wantTenant(t, s, many(1)...)
	})
}

// What was removed by hand waits. What is banned anew after that does not: somebody has attacked again.
func TestANewBanEndsTheWaitAfterARemovalByHand(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		a.set.ban(100*time.Hour, many(2)...)
		pass(time.Minute)
		s.byHand(nil, many(2))
		pass(6 * time.Minute) // the leader looks each five
		wantTenant(t, s)
		a.set.ban(100*time.Hour, many(1)...)
		a.Notify(Addition)
		pass(30 * time.Second)
		wantTenant(t, s, many(1)...)
		if n := warned(a.Status(), "by hand"); n != 1 {
			t.Errorf("%d shown as removed by hand, want the other one", n)
		}
		s.byHand(nil, many(1))
		pass(6 * time.Minute)
		wantTenant(t, s)
		pass(12 * time.Minute)
		wantTenant(t, s, many(2)[1:]...) // its ten minutes are over; the other waits twenty this time
		pass(10 * time.Minute)
		wantTenant(t, s, many(2)...)
	})
}
