package mesh

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/warning"
)

const year = 365 * 24 * time.Hour

// stepping is a clock that somebody sets, and that may run too fast.
type stepping struct {
	began time.Time
	off   atomic.Int64 // ns
	rate  float64      // of a second in each second, too much
}

func (s *stepping) now() time.Time {
	real := time.Now()
	return real.Add(time.Duration(s.off.Load() + int64(float64(real.Sub(s.began))*s.rate))).Round(0)
}

func (s *stepping) step(d time.Duration) { s.off.Add(int64(d)) }

// give bans one prefix until then.
func give(t *testing.T, a *Agent, prefix string, until time.Time) control.BanReply {
	t.Helper()
	reply, err := a.Ban(t.Context(), control.BanCall{
		Prefixes: control.Prefixes{netip.MustParsePrefix(prefix)}, Jail: "sshd", Until: control.UntilAt(until),
	})
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// TestAClockThatStepsEndsNothingAndKeepsNothing sets one router's clock ahead
// and back while all of them run.
func TestAClockThatStepsEndsNothingAndKeepsNothing(t *testing.T) {
	need.Long(t)
	t.Parallel()
	odd := &stepping{began: time.Now()}
	one, _ := startedBy(t, odd.now, "router1", nil)
	join := func(c *config.Config) { c.Join = []string{one.Addr()} }
	two, three := started(t, "router2", join), started(t, "router3", join)
	all := []*Agent{one, two, three}
	for _, a := range all {
		eventually(t, "all to be there", func() bool { return status(t, a).Members.Alive == 3 })
	}
	const long, lifted = "203.0.113.1/32", "203.0.113.2/32"
	give(t, one, long, odd.now().Add(30*time.Minute))
	give(t, two, lifted, time.Now().Add(30*time.Minute))
	for _, a := range all {
		eventually(t, "both bans", func() bool { return len(listing(t, a)) == 2 })
	}
	if _, err := three.Unban(t.Context(), control.UnbanCall{Prefixes: control.Prefixes{netip.MustParsePrefix(lifted)}}); err != nil {
		t.Fatal(err)
	}
	same := func(when string) {
		t.Helper()
		eventually(t, "equal roots "+when, func() bool {
			root := status(t, one).Root
			return root == status(t, two).Root && root == status(t, three).Root
		})
		for _, a := range all {
			eventually(t, when+" one ban at "+a.cfg.Name, func() bool {
				return slices.Equal(slices.Sorted(maps.Keys(listing(t, a))), []string{long})
			})
			if left := time.Until(listing(t, a)[long].Until.Time()); left < 28*time.Minute || left > 31*time.Minute {
				t.Errorf("%s at %s the ban has %v left", when, a.cfg.Name, left)
			}
		}
	}
	same("before")
	for _, d := range []time.Duration{time.Hour, -2 * time.Hour, time.Hour + year, -2 * year, year} {
		odd.step(d)
		when := "after a step of " + d.String()
		off := time.Duration(odd.off.Load())
		eventually(t, when+" router2 to see it", func() bool {
			said := slices.ContainsFunc(status(t, two).Warnings, func(w string) bool { return strings.Contains(w, "clock of router1") })
			return said == (off.Abs() > warning.Skew)
		})
		eventually(t, when+" router1 to go by the others' clocks", func() bool { return time.Until(one.clock.now()).Abs() < time.Second })
		same(when)
		// What it bans now, by its own clock, lives as long as was meant.
		end := time.Now().Add(3 * time.Second)
		give(t, one, "203.0.113.3/32", odd.now().Add(time.Until(end)))
		for _, a := range all {
			eventually(t, when+" the short ban at "+a.cfg.Name, func() bool { return len(listing(t, a)) == 2 })
		}
		for _, a := range all {
			eventually(t, when+" its end at "+a.cfg.Name, func() bool { return len(listing(t, a)) == 1 })
			if early := time.Until(end); early > time.Second {
				t.Fatalf("%s ended it %v early", a.cfg.Name, early)
			}
		}
		if late := time.Since(end); late > 4*time.Second {
			t.Errorf("%s it ended %v late", when, late)
		}
	}
}

// TestAReplayFromBeforeTheClockWasSet: fail2ban keeps the times of its bans over restarts, as the clock of then had them. Its
// replay is the same offence, and what was lifted stays lifted.
func TestAReplayFromBeforeTheClockWasSet(t *testing.T) {
	need.Long(t)
	t.Parallel()
	odd := &stepping{began: time.Now()}
	one, _ := startedBy(t, odd.now, "router1", func(c *config.Config) { c.Fail2ban.Client = "/nonexistent/fail2ban-client" })
	join := func(c *config.Config) { c.Join = []string{one.Addr()} }
	two, three := started(t, "router2", join), started(t, "router3", join)
	set := func(to time.Duration) {
		odd.off.Store(int64(to))
		eventually(t, "router1 to go by the others' clocks", func() bool {
			return time.Until(one.clock.now()).Abs() < time.Second && one.clock.agrees() == (to == 0)
		})
	}
	hook := func(e control.HookEvent, prefix string, start time.Time, life time.Duration, restored bool) string {
		t.Helper()
		reply, err := one.Fail2ban(t.Context(), control.HookCall{
			Event: e, Jail: "sshd", Prefixes: control.Prefixes{netip.MustParsePrefix(prefix)}, Failures: 5, Restored: restored,
			Start: control.At(start), Until: control.UntilAt(start.Add(life)), At: control.At(odd.now()),
		})
		if err != nil {
			t.Fatal(err)
		}
		return reply.Note
	}
	eventually(t, "all to be there", func() bool { return status(t, two).Members.Alive == 3 && status(t, three).Members.Alive == 3 })
	set(0)
	for i, c := range []struct{ then, now time.Duration }{{0, -time.Hour}, {0, time.Hour}, {-time.Hour, 0}, {time.Hour, -2 * time.Hour}} {
		set(c.then)
		began, start := time.Now(), odd.now().Add(-2*time.Second).Truncate(time.Second)
		kept, lifted, ended := fmt.Sprintf("203.0.113.%d/32", 3*i+1), fmt.Sprintf("203.0.113.%d/32", 3*i+2), fmt.Sprintf("203.0.113.%d/32", 3*i+3)
		for _, prefix := range []string{kept, lifted, ended} {
			hook(control.HookBan, prefix, start, 5*time.Hour, false)
			eventually(t, prefix+" at router2", func() bool { _, ok := listing(t, two)[prefix]; return ok })
		}
		if _, err := two.Unban(t.Context(), control.UnbanCall{Prefixes: control.Prefixes{netip.MustParsePrefix(lifted)}}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the lift at router1", func() bool { _, ok := listing(t, one)[lifted]; return !ok })
		set(c.now)
		if note := hook(control.HookBan, lifted, start, 5*time.Hour, true); note == "" {
			t.Errorf("clock off by %v, then by %v: the replay of a lifted ban counts", c.then, c.now)
		}
		hook(control.HookBan, kept, start, 5*time.Hour, true)
		if got := listing(t, one)[kept].Records; len(got) != 1 || got[0].Start.Time().Sub(began).Abs() > 5*time.Second {
			t.Errorf("clock off by %v, then by %v: after a replay the ban of %v is %+v", c.then, c.now, began, got)
		}
		// An operator has fail2ban unban it, which names the ban by its old start.
		hook(control.HookUnban, ended, start, 5*time.Hour, false)
		for _, prefix := range []string{lifted, ended} {
			if b, ok := listing(t, one)[prefix]; ok {
				t.Errorf("clock off by %v, then by %v: router1 bans %s again: %+v", c.then, c.now, prefix, b)
			}
		}
		// A prolongation is reckoned by today's clock.
		hook(control.HookProlong, kept, start, odd.now().Add(6*time.Hour).Sub(start), false)
		if b := listing(t, one)[kept]; len(b.Records) != 1 || (time.Until(b.Until.Time())-6*time.Hour).Abs() > 10*time.Second {
			t.Errorf("clock off by %v, then by %v: prolonged by 6h from now, it ends in %v: %+v", c.then, c.now, time.Until(b.Until.Time()), b)
		}
	}
}

// TestABanAsLongAsTheClockWasOff: of one that begins when the last one ends, and lasts as long as the clock was once off.
func TestABanAsLongAsTheClockWasOff(t *testing.T) {
	t.Parallel()
	a := started(t, "router1", func(c *config.Config) { c.Fail2ban.Client = "/nonexistent/fail2ban-client" })
	a.clock.remember(-time.Hour)
	const prefix = "203.0.113.1/32"
	hook := func(start, until time.Time) {
		t.Helper()
		if _, err := a.Fail2ban(t.Context(), control.HookCall{
			Event: control.HookBan, Jail: "sshd", Prefixes: control.Prefixes{netip.MustParsePrefix(prefix)}, Failures: 5,
			Start: control.At(start), Until: control.UntilAt(until), At: control.At(time.Now()),
		}); err != nil {
			t.Fatal(err)
		}
	}
	second := time.Now().Truncate(time.Second)
	hook(second.Add(-time.Hour), second.Add(2*time.Second))
	eventually(t, "the first ban to end", func() bool { return len(listing(t, a)) == 0 })
	hook(second, second.Add(time.Hour))
	if b := listing(t, a)[prefix]; b.Until.Time().Sub(second.Add(time.Hour)).Abs() > time.Second {
		t.Errorf("the second ban: %+v", b)
	}
}

// TestWhatStartsAheadIsNoNewOffence: an agent that has been restarted no longer knows how far a clock that was set back was off.
func TestWhatStartsAheadIsNoNewOffence(t *testing.T) {
	t.Parallel()
	a := started(t, "router1", func(c *config.Config) { c.Fail2ban.Client = "/nonexistent/fail2ban-client" })
	now := time.Now()
	start := now.Add(50 * time.Minute).Truncate(time.Second)
	hook := func(e control.HookEvent, prefix string, until time.Time, restored bool) (note string) {
		t.Helper()
		reply, err := a.Fail2ban(t.Context(), control.HookCall{
			Event: e, Jail: "sshd", Prefixes: control.Prefixes{netip.MustParsePrefix(prefix)}, Failures: 5, Restored: restored,
			Start: control.At(start), Until: control.UntilAt(until), At: control.At(now),
		})
		if err != nil {
			t.Fatal(err)
		}
		return reply.Note
	}
	const replayed, taken, spooled, prolonged = "203.0.113.1/32", "203.0.113.2/32", "203.0.113.3/32", "203.0.113.4/32"
	if note := hook(control.HookBan, replayed, start.Add(time.Hour), true); !strings.Contains(note, "in the future") {
		t.Errorf("a replay that starts ahead is answered with %q", note)
	}
	got, err := a.TakeIn(t.Context(), control.TakeInCall{Bans: []control.HeldBan{
		{Prefix: netip.MustParsePrefix(taken), Jail: "sshd", Start: control.At(start), Until: control.UntilAt(start.Add(time.Hour))},
	}})
	if err != nil || got.New != 0 || got.Unshared != 1 {
		t.Errorf("taken in %+v, %v, want one that is not shared", got, err)
	}
	// What fail2ban has just seen counts from now: a ban for as long as it was given, a prolongation to its end.
	for prefix, note := range map[string]string{
		spooled:   hook(control.HookBan, spooled, start.Add(time.Hour), false),
		prolonged: hook(control.HookProlong, prolonged, now.Add(time.Hour), false),
	} {
		if note != "" {
			t.Errorf("%s is answered with %q", prefix, note)
		}
	}
	list := listing(t, a)
	if got := slices.Sorted(maps.Keys(list)); !slices.Equal(got, []string{spooled, prolonged}) {
		t.Errorf("banned are %v", got)
	}
	for prefix, b := range list {
		r := b.Records[0]
		if r.Start.Time().Sub(now).Abs() > 10*time.Second || (b.Until.Time().Sub(now)-time.Hour).Abs() > 10*time.Second {
			t.Errorf("%s is banned from %v to %v, want an hour from %v", prefix, r.Start.Time(), b.Until.Time(), now)
		}
	}
}

// TestADriftingClock runs a fifth too fast.
func TestADriftingClock(t *testing.T) {
	need.Long(t)
	t.Parallel()
	odd := &stepping{began: time.Now(), rate: 0.2}
	one, _ := startedBy(t, odd.now, "router1", nil)
	two := started(t, "router2", func(c *config.Config) { c.Join = []string{one.Addr()} })
	three := started(t, "router3", func(c *config.Config) { c.Join = []string{one.Addr()} })
	all := []*Agent{one, two, three}
	for _, a := range all {
		eventually(t, "all to be there", func() bool { return status(t, a).Members.Alive == 3 })
	}
	end := time.Now().Add(12 * time.Second)
	give(t, two, "203.0.113.1/32", end)
	for _, a := range all {
		eventually(t, "the ban at "+a.cfg.Name, func() bool { return len(listing(t, a)) == 1 })
	}
	for _, a := range all {
		eventually(t, "its end at "+a.cfg.Name, func() bool { return len(listing(t, a)) == 0 })
		if early := time.Until(end); early > time.Second {
			t.Errorf("%s ended it %v early, its clock being %v ahead", a.cfg.Name, early, time.Until(odd.now()))
		}
	}
	if late := time.Since(end); late > 4*time.Second {
		t.Errorf("it ended %v late", late)
	}
	if ahead := time.Until(odd.now()); ahead < warning.Skew {
		t.Fatalf("the clock was only %v ahead: nothing was tried", ahead)
	}
	eventually(t, "router2 to say whose clock is wrong", func() bool {
		return slices.ContainsFunc(status(t, two).Warnings, func(w string) bool { return strings.Contains(w, "clock of router1") })
	})
}

// TestBansCrossTheEndsOfShortClocks: in January 2038 a signed number of seconds
// of 32 bits runs over, in February 2106 an unsigned one.
func TestBansCrossTheEndsOfShortClocks(t *testing.T) {
	need.Long(t)
	for _, bits := range []int{31, 32} {
		edge := time.Unix(1<<bits, 0).UTC()
		t.Run(edge.Format("2006"), func(t *testing.T) {
			t.Parallel()
			clock := &stepping{began: time.Now()}
			clock.step(time.Until(edge.Add(-6 * time.Second)))
			dir := ""
			one, stop := startedBy(t, clock.now, "router1", func(c *config.Config) { dir = c.DataDir })
			two, _ := startedBy(t, clock.now, "router2", func(c *config.Config) { c.Join = []string{one.Addr()} })
			give(t, one, "203.0.113.1/32", edge.Add(time.Second))
			give(t, one, "203.0.113.2/32", edge.Add(time.Hour))
			give(t, two, "203.0.113.3/32", edge.Add(20*year))
			for _, a := range []*Agent{one, two} {
				eventually(t, "three bans at "+a.cfg.Name, func() bool { return len(listing(t, a)) == 3 })
				got := listing(t, a)["203.0.113.1/32"].Until.Time()
				if !got.Equal(edge.Add(time.Second)) {
					t.Errorf("%s ends at %v, want %v", a.cfg.Name, got, edge.Add(time.Second))
				}
			}
			if now := clock.now(); now.After(edge) {
				t.Fatalf("it is %v already", now)
			}
			for _, a := range []*Agent{one, two} {
				eventually(t, "the end of the short one at "+a.cfg.Name, func() bool { return len(listing(t, a)) == 2 })
			}
			if now := clock.now(); now.Before(edge) {
				t.Errorf("it ended at %v, before its time", now)
			}
			give(t, one, "203.0.113.4/32", clock.now().Add(time.Hour))
			stop()
			one, _ = startedBy(t, clock.now, "router1", func(c *config.Config) { c.DataDir, c.Join = dir, []string{two.Addr()} })
			eventually(t, "what was banned on either side of it, after a restart", func() bool { return len(listing(t, one)) == 3 })
			eventually(t, "equal roots", func() bool { return status(t, one).Root == status(t, two).Root })
		})
	}
}

// TestEndsInThePastAndFarAhead: neither is held, nor runs over into the other.
func TestEndsInThePastAndFarAhead(t *testing.T) {
	t.Parallel()
	a := started(t, "router1", func(c *config.Config) { c.Bans.MaxDuration = 0 })
	for _, c := range []struct {
		until time.Time
		want  string // expired, kept or refused
	}{
		{time.UnixMilli(1), "expired"}, {time.Now().Add(-year), "expired"}, {time.Now().Add(-time.Millisecond), "expired"},
		{time.Now().Add(150 * year), "kept"}, {time.Date(2200, 12, 31, 23, 59, 59, 0, time.UTC), "kept"},
		{time.Date(2201, 1, 2, 0, 0, 0, 0, time.UTC), "refused"}, {time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), "refused"},
	} {
		prefix := netip.MustParsePrefix("203.0.113.9/32")
		reply, err := a.Ban(t.Context(), control.BanCall{Prefixes: control.Prefixes{prefix}, Jail: "sshd", Until: control.UntilAt(c.until)})
		got := "kept"
		switch {
		case err != nil:
			got = "refused"
		case reply.Expired == 1:
			got = "expired"
		}
		b, listed := listing(t, a)[prefix.String()]
		if got != c.want || listed != (c.want == "kept") || listed && !b.Until.Time().Equal(c.until.Truncate(time.Millisecond)) {
			t.Errorf("until %v: %s (%v), listed %v until %v; want %s", c.until, got, err, listed, b.Until.Time(), c.want)
		}
		a.Unban(t.Context(), control.UnbanCall{All: true, Confirmed: true})
	}
}
