package commit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"banmesh/mesh/conductor"
	"banmesh/store"
)

func wantTenant(t *testing.T, s *site, want ...netip.Prefix) {
	t.Helper()
	want = slices.SortedFunc(slices.Values(want), comparePrefixes)
	if got := s.tenant(); !slices.Equal(got, want) {
		t.Fatalf("tenant = %v, want %v", got, want)
	}
}

func TestABanIsCommittedAfterTheWindow(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(10 * time.Second)
		a.set.ban(time.Hour, many(1)...)
		a.Notify(Addition)
		if st := a.Status(); st.State != StatePending || st.PendingAdd != 1 || a.committed(many(1)[0]) {
			t.Errorf("status = %+v, committed %v, want pending, one to add", st, a.committed(many(1)[0]))
		}
		pass(1900 * time.Millisecond)
		wantTenant(t, s)
		pass(200 * time.Millisecond)
		wantTenant(t, s, many(1)...)
		st := a.Status()
		if st.State != StateIdle || st.Committed != 1 || st.Commits != 1 || st.LastCommit.IsZero() || st.LastError != "" || !a.committed(many(1)[0]) {
			t.Errorf("status = %+v, want idle with one committed", st)
		}
		if got := a.set.placedPrefixes(); !slices.Equal(got, many(1)) {
			t.Errorf("placed = %v, want %v", got, many(1))
		}
		if a.told(EventCommit) != 1 {
			t.Errorf("%d commit events, want one", a.told(EventCommit))
		}
	})
}

func TestChangesWaitForCompanyButNotForEver(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		for i := range 30 { // one a second
			a.set.ban(time.Hour, many(30)[i])
			a.Notify(Addition)
			pass(time.Second)
		}
		h := s.commits()
		if len(h) == 0 {
			t.Fatal("nothing was committed in 30 s")
		}
		if n := len(h[0].add); n < 9 || n > 11 {
			t.Errorf("the first commit took %d bans, want about ten", n)
		}
	})
}

func TestAStormIsAtMostThreeCommits(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		s.delay = 3 * time.Second
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		for _, p := range spread(1000) {
			a.set.ban(time.Hour, p)
			a.Notify(Addition)
			pass(time.Millisecond)
		}
		pass(8 * time.Second) // window and two commits
		if got, n := len(s.tenant()), len(s.commits()); got != 1000 || n > 3 {
			t.Errorf("%d addresses in %d commits, want 1000 in at most 3", got, n)
		}
	})
}

func TestWhileACommitRunsChangesGather(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		s.delay = 20 * time.Second
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		a.set.ban(time.Hour, many(1)...)
		a.Notify(Addition)
		pass(3 * time.Second)
		if st := a.Status(); st.State != StateCommitting || !strings.HasPrefix(a.lastWork(), "1 ") {
			t.Fatalf("state = %s, work %q, want committing", st.State, a.lastWork())
		}
		for _, p := range many(11)[1:] {
			a.set.ban(time.Hour, p)
			a.Notify(Addition)
			pass(time.Second)
		}
		pass(2 * time.Minute)
		if h := s.commits(); len(h) != 2 || len(h[1].add) != 10 {
			t.Errorf("%d commits, want two: one ban and then ten", len(h))
		}
		if !strings.HasPrefix(a.lastWork(), "0 ") {
			t.Errorf("work = %q, want idle", a.lastWork())
		}
	})
}

func TestAdditionsTakeTurnsAndLiftsDoNot(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		start := time.Now()
		for i := range 8 {
			a.set.ban(time.Hour, many(8)[i])
			a.Notify(Addition)
			pass(5 * time.Second)
		}
		if n := len(s.commits()); n != 4 { // three at once, then the rest in its turn at 30 s
			t.Errorf("%d commits in 40 s, want 4", n)
		}
		a.set.unban(false, many(1)...)
		a.Notify(Removal)
		pass(2100 * time.Millisecond)
		if slices.Contains(s.tenant(), many(1)[0]) {
			t.Errorf("a lift waited for its turn")
		}
		for i, r := range s.commits() {
			t.Logf("commit %d at %s: +%d -%d", i, r.at.Sub(start), len(r.add), len(r.remove))
		}
	})
}

func TestExpiriesWaitUpToFiveMinutes(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		a.set.ban(10*time.Minute, many(2)...)
		a.Notify(Addition)
		pass(10 * time.Minute)
		a.Notify(Expiry)
		pass(4 * time.Minute)
		wantTenant(t, s, many(2)...)
		pass(90 * time.Second)
		wantTenant(t, s)
		if got := a.set.placedPrefixes(); len(got) != 0 {
			t.Errorf("placed = %v, want nothing", got)
		}
	})
}

func TestExpiryIsNoticedWithoutBeingTold(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		a.set.ban(10*time.Minute, many(2)...)
		a.Notify(Addition)
		pass(25 * time.Minute)
		wantTenant(t, s)
	})
}

func TestExpiryWaitsForClocksToAgree(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		a.set.ban(10*time.Minute, many(2)...)
		a.Notify(Addition)
		pass(5 * time.Minute)
		a.flag(func() { a.agree = false })
		pass(time.Hour)
		wantTenant(t, s, many(2)...)
		if w := fmt.Sprint(a.Status().Warnings); !strings.Contains(w, "clocks disagree") {
			t.Errorf("warnings = %s, want one about clocks", w)
		}
		a.flag(func() { a.agree = true })
		pass(10 * time.Minute)
		wantTenant(t, s)
	})
}

func TestOnlyASettledLeaderCommits(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		a.flag(func() { a.leads, a.ready = false, false })
		a.set.ban(time.Hour, many(1)...)
		a.Notify(Addition)
		pass(time.Minute)
		a.lead(true)
		pass(time.Minute)
		wantTenant(t, s)
		if _, err := a.CommitNow(context.Background(), true); !errors.Is(err, ErrNotReady) {
			t.Errorf("CommitNow of an unsettled leader = %v, want ErrNotReady", err)
		}
		a.flag(func() { a.leads, a.ready = false, true })
		if _, err := a.CommitNow(context.Background(), true); !errors.Is(err, ErrNotLeader) {
			t.Errorf("CommitNow of a follower = %v, want ErrNotLeader", err)
		}
		pass(time.Minute)
		wantTenant(t, s)
		if n := s.tried("begin"); n != 0 {
			t.Errorf("%d edits were begun, want none", n)
		}
		a.lead(true)
		pass(100 * time.Millisecond) // it has waited long enough
		wantTenant(t, s, many(1)...)
	})
}

func TestAFollowerProbesGentlyAndShowsWhatLeadersPlaced(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		a.lead(false)
		pass(24 * time.Hour)
		if n := s.tried("read"); n < 100 || n > 200 {
			t.Errorf("%d sessions in a day, want about one each ten minutes", n)
		}
		if able, why := a.Able(); !able {
			t.Errorf("not able: %s", why)
		}
		a.set.ban(time.Hour, many(2)...)
		if err := a.set.Place(context.Background(), many(1), store.At(time.Now().Add(time.Hour))); err != nil {
			t.Fatal(err)
		}
		a.Notify(Addition)
		if st := a.Status(); st.Committed != 0 || st.ReadAt.IsZero() || st.PendingAdd != 1 || st.State != StatePending {
			t.Errorf("status = %+v, want none committed, as was read, and one pending", st)
		}
		if is := a.CommittedNow(); !is(many(1)[0]) || is(many(2)[1]) {
			t.Error("want the placed one committed and the other not")
		}
	})
}

func TestCommitNowWaitsForNothing(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		a.set.ban(time.Hour, many(3)...)
		r, err := a.CommitNow(context.Background(), false)
		if err != nil || len(r.Plan.Add) != 3 || r.Took <= 0 {
			t.Fatalf("CommitNow = %+v, %v, want three added", r, err)
		}
		wantTenant(t, s, many(3)...)
		r, err = a.CommitNow(context.Background(), false)
		if err != nil || r.Took != 0 || !r.Plan.Empty() {
			t.Errorf("CommitNow = %+v, %v, want nothing to do", r, err)
		}
	})
}

func TestPlanChangesNothing(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		a.lead(false)
		pass(time.Minute)
		a.set.ban(time.Hour, many(3)...)
		s.byHand(pfx("192.0.2.1"), nil)
		writes := a.set.writes
		p, err := a.Plan(context.Background())
		if err != nil || len(p.Add) != 3 || len(p.Foreign) != 1 {
			t.Fatalf("Plan = %s, %v, want three to add and one foreign", text(p), err)
		}
		if a.set.writes != writes || len(s.commits()) != 1 || s.tried("begin") != 0 {
			t.Error("Plan has written")
		}
	})
}

func TestMassLiftWaitsForForceAndTheRestGoesOn(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		all := spread(40)
		a.set.ban(time.Hour, all...)
		pass(time.Minute)
		a.set.unban(false, all[:30]...)
		a.set.ban(time.Hour, pfx("192.0.2.1")...)
		a.Notify(Removal)
		a.Notify(Addition)
		pass(time.Minute)
		wantTenant(t, s, append(pfx("192.0.2.1"), all...)...)
		st := a.Status()
		if st.Held != 30 || a.told(EventHeld) != 1 || !strings.Contains(fmt.Sprint(st.Warnings), "--force") {
			t.Errorf("status = %+v, %d events, want 30 held and told once", st, a.told(EventHeld))
		}
		pass(time.Hour)
		if r, err := a.CommitNow(context.Background(), true); err != nil || len(r.Plan.Remove) == 0 {
			t.Fatalf("CommitNow(force) = %s, %v", text(r.Plan), err)
		}
		if got := s.tenant(); slices.Contains(got, all[0]) {
			t.Errorf("tenant = %v, want what was lifted gone", got)
		}
	})
}

func TestFreezeStopsAdditionsOnly(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		a.set.ban(time.Hour, many(2)...)
		pass(time.Minute)
		a.set.freeze(true)
		a.set.ban(time.Hour, pfx("192.0.2.1")...)
		a.set.unban(false, many(1)...)
		a.Notify(Addition)
		a.Notify(Removal)
		pass(time.Minute)
		wantTenant(t, s, many(2)[1])
		if st := a.Status(); st.State != StateFrozen || st.Detail != "by c" {
			t.Errorf("status = %+v, want frozen by c", st)
		}
		a.set.freeze(false)
		a.Notify(Addition)
		pass(time.Minute)
		wantTenant(t, s, many(2)[1], pfx("192.0.2.1")[0])
	})
}

func TestAnAllowIsCutOutOfABannedNetwork(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		a.set.ban(time.Hour, pfx("198.51.100.0/29")...)
		pass(time.Minute)
		a.set.allow(pfx("198.51.100.3")...)
		a.Notify(Removal)
		pass(3 * time.Second)
		wantTenant(t, s, pfx("198.51.100.0/31", "198.51.100.2", "198.51.100.4/30")...)
		if !a.committed(pfx("198.51.100.0/29")[0]) {
			t.Error("the network is not committed, want it: what of it is effective is")
		}
	})
}

func TestForeignIsShownAndStays(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		s.byHand(pfx("192.0.2.1"), nil)
		a.set.ban(time.Minute, pfx("192.0.2.1")...) // banned as well, and not ours for that
		pass(20 * 24 * time.Hour)
		wantTenant(t, s, pfx("192.0.2.1")...)
		if st := a.Status(); st.Foreign != 1 || a.told(EventForeign) != 1 {
			t.Errorf("foreign = %d, told %d times, want 1 and once", st.Foreign, a.told(EventForeign))
		}
	})
}

func TestForeignGoesInTimeWhereConfigured(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a", func(c *Config) { c.Foreign.Remove = true })
		defer a.halt()
		s.byHand(pfx("192.0.2.1"), nil)
		pass(23 * time.Hour)
		wantTenant(t, s, pfx("192.0.2.1")...)
		pass(2 * time.Hour)
		wantTenant(t, s)
	})
}

func TestRemovedByHandIsNotPutBackAtOnce(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		a.set.ban(100*24*time.Hour, many(2)...)
		pass(time.Minute)
		var away time.Duration
		for range 2 {
			s.byHand(nil, many(1))
			at := time.Now()
			pass(6 * time.Minute) // the leader looks each five
			if st := a.Status(); warned(st, "by hand") != 1 {
				t.Fatalf("status = %+v, want one removed by hand", st)
			}
			a.set.ban(time.Hour, pfx("192.0.2.9")...) // a commit for another reason
			a.Notify(Addition)
			pass(time.Minute)
			for len(s.tenant()) < 3 && time.Since(at) < 24*time.Hour {
				pass(time.Minute)
			}
			back := time.Since(at)
			if back < 10*time.Minute || back < 3*away/2 {
				t.Errorf("put back after %s (before that %s), want 10 min at least, and longer each time", back, away)
			}
			away = back
		}
		if a.told(EventByHand) != 2 {
			t.Errorf("told %d times, want twice", a.told(EventByHand))
		}
	})
}

// TestWhatIsBannedAgainStaysOurs: an address was removed by hand, its ban ended, and it was banned again before its record was
// found to be unused.
func TestWhatIsBannedAgainStaysOurs(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		a.set.ban(10*time.Minute, many(1)...)
		pass(time.Minute)
		s.byHand(nil, many(1))
		unused := func() bool {
			a.tenant.Lock()
			defer a.tenant.Unlock()
			return len(a.memory.unused) > 0
		}
		for range 20 {
			if !unused() {
				pass(time.Minute)
			}
		}
		pass(a.cfg.tuning.AbsentWait - 4*time.Minute)
		a.set.ban(24*time.Hour, many(1)...)
		a.Notify(Addition)
		pass(time.Minute)
		wantTenant(t, s, many(1)...)
		pass(3*time.Minute + 30*time.Second)         // until the leader reads running again, five are left
		a.set.ban(24*time.Hour, pfx("192.0.2.9")...) // a commit for another reason
		a.Notify(Addition)
		pass(time.Minute)
		a.set.unban(true, many(1)...)
		a.Notify(Removal)
		pass(time.Minute)
		wantTenant(t, s, pfx("192.0.2.9")...)
	})
}

func TestWhatEndedWhileTheConductorWasAwayIsRemovedWhenItIsBack(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		a.set.ban(time.Hour, many(3)...)
		pass(time.Minute)
		wantTenant(t, s, many(3)...)
		s.breaks(fault{step: "begin", err: conductor.ErrUnreachable, always: true}, fault{step: "read", err: conductor.ErrUnreachable, always: true})
		pass(time.Minute)
		a.lead(false)
		pass(30 * 24 * time.Hour) // longer than a lease
		s.repair()
		a.lead(true)
		// At once, unless the record of what was placed happens to have been renewed a moment ago: its ban may then still arrive.
		for back := time.Now(); len(s.tenant()) > 0 && time.Since(back) < a.cfg.tuning.MissingWait+10*time.Minute; {
			pass(time.Minute)
		}
		wantTenant(t, s)
	})
}

func TestLeasesAreRenewedWhileTheyHold(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		a.set.ban(1000*time.Hour, many(3)...)
		pass(time.Minute)
		for range 10 {
			pass(24 * time.Hour)
			for _, e := range a.set.Placed() {
				if left := time.Until(e.Until.Time()); left < 80*time.Hour {
					t.Fatalf("%s left of the lease of %s", left, e.Prefix)
				}
			}
			if n := len(a.set.Placed()); n != 3 {
				t.Fatalf("%d placed, want 3", n)
			}
		}
		if n := a.set.writes; n > 6 {
			t.Errorf("%d writes in ten days, want about one each half lease", n)
		}
	})
}

func TestTheCapHoldsAndIsShown(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a", func(c *Config) { c.MaxAddresses = 10 })
		defer a.halt()
		a.set.ban(time.Hour, many(15)...)
		pass(time.Minute)
		if n := len(s.tenant()); n != 10 {
			t.Errorf("%d addresses, want 10", n)
		}
		pass(10 * time.Minute)
		if capped := warned(a.Status(), "max_addresses"); capped != 5 || len(s.commits()) != 1 {
			t.Errorf("%d capped after %d commits, want 5 after one", capped, len(s.commits()))
		}
	})
}

func TestOffWithoutAConductor(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a", func(c *Config) { c.Conductor = nil })
		defer a.halt()
		if able, _ := a.Able(); able || a.Status().State != StateOff {
			t.Errorf("state = %s, able %v, want off", a.Status().State, able)
		}
		if _, err := a.CommitNow(context.Background(), false); !errors.Is(err, ErrOff) {
			t.Errorf("CommitNow = %v, want ErrOff", err)
		}
		if _, err := a.Plan(context.Background()); !errors.Is(err, ErrOff) {
			t.Errorf("Plan = %v, want ErrOff", err)
		}
	})
}

func TestCommitNowAfterTheEndSaysSo(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		a.halt()
		if _, err := a.CommitNow(context.Background(), false); !errors.Is(err, errStopped) {
			t.Errorf("CommitNow = %v, want ErrStopped", err)
		}
	})
}

func TestValidateNamesTheField(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"max_growth_percent": func(c *Config) { c.MaxGrowthPercent = 0 },
		"growth_floor":       func(c *Config) { c.GrowthFloor = -1 },
		"max_shrink_percent": func(c *Config) { c.MaxShrinkPercent = 0 },
		"max_wait":           func(c *Config) { c.MaxWait = time.Second },
		"min_interval":       func(c *Config) { c.MinInterval = -1 },
		"timeout":            func(c *Config) { c.Timeout = 0 },
		"Leading":            func(c *Config) { c.Leading = nil },
	} {
		c := DefaultConfig()
		c.Set, c.Leading = newFakeSet("a"), func() bool { return true }
		if err := c.validate(); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if err := c.validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want %s named", err, want)
		}
	}
}

func TestAJumpOfTheMeshsTimeStallsNothing(t *testing.T) {
	for _, jump := range []time.Duration{-3 * time.Hour, 3 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			play(t, func(t *testing.T, s *site) {
				var offset atomic.Int64
				a := newAgent(t, s, "a", func(c *Config) {
					c.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
				})
				defer a.halt()
				pass(time.Minute)
				a.set.ban(100*time.Hour, many(1)...)
				a.Notify(Addition)
				pass(time.Second)
				offset.Store(int64(jump))
				pass(2 * time.Second)
				wantTenant(t, s, many(1)...)
				s.breaks(fault{step: "begin", err: conductor.ErrUnreachable})
				a.set.ban(100*time.Hour, many(2)...)
				a.Notify(Addition)
				pass(3 * time.Second)
				offset.Store(0)
				pass(5 * time.Second)
				wantTenant(t, s, many(2)...)
			})
		})
	}
}

// A change that comes while the leader reads the tenant waits for that, and a conductor may take long to answer.
func TestALeaderThatReadsSaysThatItIsBusy(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		busy := fmt.Sprintf("%d  0", WorkCommitting)
		if got := a.lastWork(); got == busy {
			t.Fatalf("work %q while nothing is done", got)
		}
		s.breaks(fault{step: "read", hang: true})
		reads := s.tried("read")
		for s.tried("read") == reads {
			pass(time.Second)
		}
		if got := a.lastWork(); got != busy {
			t.Errorf("work %q while the conductor does not answer, want %q", got, busy)
		}
		pass(10 * time.Minute) // it answers again
		if got := a.lastWork(); got == busy {
			t.Errorf("work %q after the reading", got)
		}
	})
}
