package mesh

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/mesh/config"
	"banmesh/mesh/control"
)

// TestALeaderWhoseClockIsWrong: it neither ends a ban early nor keeps or brings
// back one that is over, and what it may not judge it leaves to the next leader.
func TestALeaderWhoseClockIsWrong(t *testing.T) {
	need.Long(t)
	for _, c := range []struct {
		name string
		off  time.Duration
	}{{"an hour ahead", time.Hour}, {"an hour behind", -time.Hour}, {"a year ahead", year}, {"a year behind", -year}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wrongClock(t, c.off)
		})
	}
}

func wrongClock(t *testing.T, off time.Duration) {
	sim, k := simulated(t, nil)
	k.MinInterval = config.Duration(time.Second)
	tenant := func() []string {
		got := sim.Addresses("blacklist-fail2ban", "internet")
		slices.Sort(got)
		return got
	}
	holds := func(want ...string) func() bool { return func() bool { return slices.Equal(tenant(), want) } }
	wrong := func() time.Time { return time.Now().Add(off) }
	dir := ""
	r1, stop := startedBy(t, wrong, "router1", func(c *config.Config) {
		c.Commit, dir = k, c.DataDir
		c.Leader.Priority = 10
	})
	join := []string{r1.Addr()}
	r2 := started(t, "router2", func(c *config.Config) { c.Commit, c.Join = k, join })
	r3 := started(t, "router3", func(c *config.Config) { c.Commit, c.Join = k, []string{r1.Addr(), r2.Addr()} })
	all := []*Agent{r1, r2, r3}
	leads := func(name string, by ...*Agent) func() bool {
		return func() bool {
			return !slices.ContainsFunc(by, func(a *Agent) bool { s := status(t, a); return s.Leader == nil || *s.Leader != name })
		}
	}
	eventually(t, "router1 to lead", leads("router1", all...))
	eventually(t, "router2 to see whose clock is wrong", func() bool {
		return slices.ContainsFunc(status(t, r2).Warnings, func(w string) bool { return strings.Contains(w, "clock of router1") })
	})
	// until is when a ban ends, as a program says it on a router with that clock.
	give := func(a *Agent, now func() time.Time, prefix string, life time.Duration) {
		t.Helper()
		_, err := a.Ban(t.Context(), control.BanCall{
			Prefixes: control.Prefixes{netip.MustParsePrefix(prefix)}, Jail: "sshd", Until: control.UntilAt(now().Add(life)),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	const long, own, short = "203.0.113.1/32", "203.0.113.2/32", "203.0.113.3/32"
	give(r2, time.Now, long, 30*time.Minute)
	give(r1, wrong, own, 30*time.Minute)
	eventually(t, "both bans in the tenant", holds(long, own))
	for _, a := range all {
		eventually(t, "both bans at "+a.cfg.Name, func() bool { return len(listing(t, a)) == 2 })
		for prefix, b := range listing(t, a) {
			if left := time.Until(b.Until.Time()); left < 29*time.Minute || left > 31*time.Minute {
				t.Errorf("%s at %s ends in %v, want half an hour", prefix, a.cfg.Name, left)
			}
		}
	}

	t.Log("a ban ends when its time has come by the clock of the others, not before")
	const life = 9 * time.Second
	end := time.Now().Add(life)
	give(r3, time.Now, short, life)
	for _, a := range all {
		eventually(t, "the short ban at "+a.cfg.Name, func() bool { return len(listing(t, a)) == 3 })
	}
	eventually(t, "the short ban in the tenant", holds(long, own, short))
	for _, a := range all {
		eventually(t, "the end of the short ban at "+a.cfg.Name, func() bool {
			_, there := listing(t, a)[short]
			if left := time.Until(end); !there && left > time.Second {
				t.Fatalf("%s ended the ban %v early", a.cfg.Name, left)
			}
			return !there
		})
	}
	eventually(t, "the leader to say that it does not remove what has ended while its clock is wrong", func() bool {
		return slices.ContainsFunc(status(t, r1).Warnings, func(w string) bool { return strings.Contains(w, "clocks disagree") })
	})
	t.Log("what somebody lifts is removed all the same")
	if _, err := r3.Unban(t.Context(), control.UnbanCall{Prefixes: control.Prefixes{netip.MustParsePrefix(long)}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the removal", holds(own, short))

	t.Log("the next leader, whose clock is right, removes what has ended")
	stop()
	eventually(t, "router2 to lead", leads("router2", r2, r3))
	eventually(t, "the removal of what has ended", holds(own))

	t.Log("the one with the wrong clock is back: nothing comes back with it")
	r1, _ = startedBy(t, wrong, "router1", func(c *config.Config) {
		c.Commit, c.DataDir, c.Leader.Priority = k, dir, 10
		c.Join = []string{r2.Addr()}
	})
	give(r2, time.Now, "203.0.113.4/32", time.Hour)
	all[0] = r1
	for _, a := range all {
		eventually(t, "the set at "+a.cfg.Name, func() bool {
			return slices.Equal(slices.Sorted(maps.Keys(listing(t, a))), []string{own, "203.0.113.4/32"})
		})
	}
	eventually(t, "the tenant", holds(own, "203.0.113.4/32"))
	eventually(t, "equal roots", func() bool {
		root := status(t, r1).Root
		return root == status(t, r2).Root && root == status(t, r3).Root
	})
}
