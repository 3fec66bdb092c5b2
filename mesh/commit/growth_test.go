package commit

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/store"
)

func set(ps ...netip.Prefix) map[netip.Prefix]struct{} {
	m := make(map[netip.Prefix]struct{})
	for _, p := range ps {
		m[p] = struct{}{}
	}
	return m
}

func TestWideBansWaitForAWord(t *testing.T) {
	for _, c := range []struct {
		rule string
		set  func(f *facts)
		want string
	}{
		{"wider than a /16 waits, and the rest goes", func(f *facts) { f.bans = bans(pfx("10.0.0.0/8", "20.0.0.0/15", "30.0.0.0/16", "192.0.2.1")...) },
			"add[30.0.0.0/16 192.0.2.1/32] heldadd[10.0.0.0/8 20.0.0.0/15]"},
		{"and so does IPv6 from a /32", func(f *facts) { f.bans = bans(pfx("2001::/31", "2001:db8::/32")...) }, "add[2001:db8::/32] heldadd[2001::/31]"},
		{"what is left of a wide ban is wide", func(f *facts) {
			f.bans = bans(pfx("10.1.0.0/16")...)
			f.bans[0].wide = true
		}, "heldadd[10.1.0.0/16]"},
		{"unless a narrow ban says the same", func(f *facts) {
			f.bans = bans(pfx("10.1.0.0/16", "10.1.0.0/16")...)
			f.bans[0].wide = true
		}, "add[10.1.0.0/16]"},
		{"a narrow ban inside goes", func(f *facts) { f.bans = bans(pfx("10.0.0.0/8", "10.1.2.3")...) }, "add[10.1.2.3/32] heldadd[10.0.0.0/8]"},
		{"once confirmed it goes", func(f *facts) { f.bans, f.known = bans(pfx("10.0.0.0/8", "11.0.0.0/8")...), pfx("10.0.0.0/8") },
			"add[10.0.0.0/8] heldadd[11.0.0.0/8]"},
		{"what is there stays there", func(f *facts) {
			f.bans, f.running, f.placed = bans(pfx("10.0.0.0/8")...), pfx("10.0.0.0/8"), leases(pfx("10.0.0.0/8")...)
		}, "nothing"},
		{"and keeps what an allow leaves of it", func(f *facts) {
			f.bans, f.running, f.placed = bans(pfx("10.0.0.0/14")...), pfx("10.0.0.0/14"), leases(pfx("10.0.0.0/14")...)
			f.exemptions = setOfPrefixes(pfx("10.2.0.0/15"))
		}, "add[10.0.0.0/15] remove[10.0.0.0/14]"},
		{"it is not there because somebody typed a part of it in", func(f *facts) { f.bans, f.running = bans(pfx("10.0.0.0/8")...), pfx("10.0.0.0/9") },
			"foreign[10.0.0.0/9] heldadd[10.0.0.0/8]"},
		{"while frozen nothing is held", func(f *facts) { f.bans, f.frozen = bans(pfx("10.0.0.0/8")...), true }, "nothing"},
	} {
		for _, aggregate := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/aggregate=%v", c.rule, aggregate), func(t *testing.T) {
				f := base()
				f.aggregate = aggregate
				c.set(&f)
				if got := text(makePlan(f)); got != c.want {
					t.Errorf("plan = %s, want %s", got, c.want)
				}
			})
		}
	}
}

func TestGrowthGuard(t *testing.T) {
	all := spread(2000) // a tenth of what is usual, floor included
	grown := func(before, there, more int) facts {
		f := base()
		f.maxAddresses, f.growthFloor, f.before = 10_000, 500, before
		f.running, f.placed, f.bans = all[:there], leases(all[:there]...), bans(all[:there+more]...)
		return f
	}
	for _, c := range []struct {
		rule      string
		f         facts
		add, held int
	}{
		{"a storm in an empty tenant", grown(0, 0, 500), 500, 0},
		{"more than the floor waits in part", grown(0, 0, 501), 500, 1},
		{"nothing is known of before", grown(-1, 0, 600), 500, 100},
		{"a large tenant may triple", grown(400, 400, 800), 800, 0},
		{"and no more", grown(400, 400, 801), 800, 1},
		{"in an hour, not in a commit", grown(10, 310, 300), 200, 100},
		{"nothing once it has", grown(0, 500, 100), 0, 100},
		{"what it shrank by comes on top", grown(300, 100, 900), 800, 100},
		{"a confirmation has made it grow", grown(10, 1000, 1000), 1000, 0},
		{"what was confirmed", func() facts { f := grown(0, 0, 900); f.known = all[:900]; return f }(), 900, 0},
		{"what has waited goes on waiting", func() facts { f := grown(0, 0, 100); f.waiting = set(all[:60]...); return f }(), 40, 60},
	} {
		for _, aggregate := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/aggregate=%v", c.rule, aggregate), func(t *testing.T) {
				c.f.aggregate = aggregate
				if p := makePlan(c.f); len(p.Add) != c.add || len(p.HeldAdd) != c.held || len(p.Remove)+len(p.Capped) != 0 {
					t.Errorf("adds %d, holds %d, removes %d, caps %d, want %d, %d, 0, 0", len(p.Add), len(p.HeldAdd), len(p.Remove), len(p.Capped), c.add, c.held)
				}
			})
		}
	}
}

// Joined prefixes are few; the bans behind them count.
func TestGrowthIsCountedInBans(t *testing.T) {
	f := base()
	f.aggregate, f.growthFloor, f.before = true, 100, 0
	f.bans = bans(many(256)...)
	if p := makePlan(f); len(p.HeldAdd) != 156 {
		t.Errorf("holds %d of 256 neighbours, want 156", len(p.HeldAdd))
	}
}

func TestTheNewestAndMostReportedGoFirst(t *testing.T) {
	f := base()
	f.growthFloor, f.before = 2, 0
	f.bans = bans(pfx("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")...)
	f.bans[3].newest = store.At(noon)
	f.bans[2].origins = 3
	if got, want := text(makePlan(f)), "add[192.0.2.3/32 192.0.2.4/32] heldadd[192.0.2.1/32 192.0.2.2/32]"; got != want {
		t.Errorf("plan = %s, want %s", got, want)
	}
}

// What no word can bring in is left out for want of room, and does not wait.
func TestWhatExceedsTheTenantDoesNotWait(t *testing.T) {
	f := base()
	f.maxAddresses, f.growthFloor, f.before = 50, 20, 0
	f.bans = bans(spread(100)...)
	if p := makePlan(f); len(p.Add) != 20 || len(p.HeldAdd) != 30 || len(p.Capped) != 50 {
		t.Errorf("adds %d, holds %d, caps %d, want 20, 30, 50", len(p.Add), len(p.HeldAdd), len(p.Capped))
	}
}

func TestWideBanWaitsForForceAndIsNotHeldAgain(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		wide, later, host := pfx("10.0.0.0/8"), pfx("20.0.0.0/8"), pfx("192.0.2.1")
		a.set.ban(100*24*time.Hour, slices.Concat(wide, host)...)
		a.Notify(Addition)
		pass(time.Hour)
		wantTenant(t, s, host...)
		st := a.Status()
		if st.Held != 1 || st.PendingAdd != 0 || a.told(EventHeld) != 1 || !strings.Contains(fmt.Sprint(st.Warnings), "--force") {
			t.Errorf("status = %+v, %d events, want one held and told once", st, a.told(EventHeld))
		}
		if p, err := a.Plan(context.Background()); err != nil || !slices.Equal(p.HeldAdd, wide) {
			t.Errorf("Plan = %s, %v, want %v held", text(p), err, wide)
		}

		a.set.ban(100*24*time.Hour, later...) // nobody has been shown this one
		s.breaks(fault{step: "apply", err: errDisk})
		if _, err := a.CommitNow(context.Background(), true); err == nil {
			t.Error("the commit did not fail")
		}
		pass(time.Hour) // the confirmation outlives the failure
		wantTenant(t, s, slices.Concat(wide, host)...)
		if st := a.Status(); st.Held != 1 {
			t.Errorf("%d held, want the one that came after", st.Held)
		}

		s.byHand(nil, wide)
		pass(time.Hour) // it comes back after its time without another confirmation
		wantTenant(t, s, slices.Concat(wide, host)...)
	})
}

func TestWhatIsNewWithTheWordIsNotCovered(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		a.set.ban(time.Hour, pfx("10.0.0.0/8")...)
		a.Notify(Addition)
		pass(time.Minute)
		a.set.ban(time.Hour, pfx("11.0.0.0/8")...)
		r, err := a.CommitNow(context.Background(), true)
		if err != nil || !slices.Equal(r.Plan.Add, pfx("10.0.0.0/8")) || !slices.Equal(r.Plan.HeldAdd, pfx("11.0.0.0/8")) {
			t.Errorf("CommitNow(force) = %s, %v, want what was shown", text(r.Plan), err)
		}
		if r, err = a.CommitNow(context.Background(), true); err != nil || len(r.Plan.Add) != 1 {
			t.Errorf("CommitNow(force) = %s, %v, want the other one as well", text(r.Plan), err)
		}
	})
}

func TestStormsGoInPartAndTheRestWaits(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a", func(c *Config) { c.GrowthFloor = 10 })
		defer a.halt()
		pass(time.Minute)
		all := spread(30)
		a.set.ban(100*time.Hour, all...)
		a.Notify(Addition)
		pass(3 * time.Hour)
		if n := len(s.tenant()); n != 10 || a.Status().Held != 20 {
			t.Fatalf("%d in the tenant, %d held, want 10, 20", n, a.Status().Held)
		}
		a.set.ban(100*time.Hour, pfx("192.0.2.1")...) // the hour is over: what is new goes
		a.Notify(Addition)
		pass(time.Minute)
		if n := len(s.tenant()); n != 11 || a.Status().Held != 20 {
			t.Fatalf("%d in the tenant, %d held, want 11, 20", n, a.Status().Held)
		}
		if _, err := a.CommitNow(context.Background(), true); err != nil {
			t.Fatal(err)
		}
		if n := len(s.tenant()); n != 31 || a.Status().Held != 0 {
			t.Errorf("%d in the tenant, %d held, want 31, 0", n, a.Status().Held)
		}
	})
}

// A tenant that was reset holds what it held before with the next commit.
func TestAResetNeedsNoWord(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a", func(c *Config) { c.GrowthFloor = 10 })
		defer a.halt()
		wide, all := pfx("10.0.0.0/8"), spread(30)
		a.set.ban(100*24*time.Hour, slices.Concat(all, wide)...)
		a.Notify(Addition)
		pass(time.Minute)
		if _, err := a.CommitNow(context.Background(), true); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Hour)
		s.byHand(nil, s.tenant())
		pass(6 * time.Minute)
		wantTenant(t, s, slices.Concat(wide, all)...)
	})
}
