package e2e

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"banmesh/internal/sim/conductorsim"
	"banmesh/internal/sim/conductorsim/history"
)

// steady is a pace at which a test sees many commits; the pace itself is tested
// elsewhere.
const steady = ", window: 500ms, max_wait: 2s, min_interval: 1s"

const mark = `<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
	`<service xmlns="http://128technology.com/t128/config/service-config"><name>%s</name><scope>private</scope></service></authority></config>`

// content has the checker judge all that the conductor saw. apart are prefixes
// that the two sides of a cut rightly did not agree about.
func content(t *testing.T, cond *conductor, d deeds, apart ...string) {
	t.Helper()
	events := cond.history(t)
	c := history.Checker{
		Tenant: "blacklist-fail2ban", MustLock: true,
		Came: func(c history.Change) error {
			p := c.Prefix.String()
			return d.came(p, c.Event.Time, !slices.Contains(apart, p))
		},
		Gone: func(c history.Change) error { return d.gone(c.Prefix.String(), c.Event.Time) },
	}
	violations := c.Check(events)
	for _, v := range violations {
		t.Error(v)
	}
	t.Logf("history: %d events, %d commits, %d violations", len(events), cond.commits(t), len(violations))
}

// tenantBecomes waits until running holds exactly that set.
func tenantBecomes(t testing.TB, patience time.Duration, cond *conductor, want map[string]bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		lacks := maps.Clone(want)
		var odd []string
		for _, p := range cond.running(t) {
			if delete(lacks, p); !want[p] {
				odd = append(odd, p)
			}
		}
		if len(lacks) == 0 && len(odd) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v running lacks %v and holds %v too much", patience, slices.Sorted(maps.Keys(lacks)), odd)
		}
	}
}

// agreed waits until all agents have one leader and list exactly want, and
// running holds it.
func agreed(t *testing.T, within time.Duration, all []*agent, cond *conductor, want map[string]bool) *agent {
	t.Helper()
	began := time.Now()
	deadline := func() time.Duration { return time.Until(began.Add(within)) }
	lead, _ := leaderWithin(t, deadline(), all)
	t.Logf("one leader, %s, after %v", lead.name, time.Since(began).Round(10*time.Millisecond))
	for _, a := range all {
		eventually(t, deadline(), "the set at "+a.name, func() bool {
			list := a.list()
			return len(list) == len(want) && !slices.ContainsFunc(list, func(l listed) bool { return !want[l.Prefix] || !l.Effective })
		})
	}
	eventually(t, deadline(), "equal roots", func() bool {
		root := all[0].status().Root
		return !slices.ContainsFunc(all[1:], func(a *agent) bool { return a.status().Root != root })
	})
	t.Logf("one set after %v", time.Since(began).Round(10*time.Millisecond))
	tenantBecomes(t, deadline(), cond, want)
	t.Logf("tenant equal to it after %v", time.Since(began).Round(10*time.Millisecond))
	return lead
}

// healing is how long a mesh that was parted may take until the tenant is equal
// to its one set.
const healing = 15 * time.Second

// TestBothSidesOfACutCommit: five routers, cut 3|2 for a minute, which is longer
// than memberlist takes to give up on a member; both sides reach the conductor.
func TestBothSidesOfACutCommit(t *testing.T) {
	t.Parallel()
	l := newLab(t, 6)
	cond := l.conductor("--commit-delay", "200ms")
	var all []*agent
	for i := range 5 {
		all = append(all, l.agent(i, settings{commit: cond.commitTo(steady)}).start())
	}
	awaitMembers(t, all, 5)
	if lead, _ := leaderOf(t, all); lead != all[0] {
		t.Fatalf("%s leads, want router1", lead.name)
	}
	d := deeds{}
	want := map[string]bool{}
	ban := func(a *agent, p string) { t.Helper(); d.ban(a, p); want[p] = true }
	unban := func(a *agent, p string) { t.Helper(); d.unban(a, p); delete(want, p) }
	for i, a := range all {
		ban(a, fmt.Sprintf("192.0.2.%d/32", i+1))
	}
	for _, a := range all {
		eventually(t, 20*time.Second, "all bans at "+a.name, func() bool { return len(a.list()) == len(want) })
	}
	tenantBecomes(t, 20*time.Second, cond, want)

	t.Log("the cut: 3 | 2")
	began := time.Now()
	l.cut([]int{0, 1, 2}, []int{3, 4})
	left, right := all[:3], all[3:]
	var second *agent
	eventually(t, 30*time.Second, "a second leader", func() bool {
		for _, a := range right {
			if s := a.status(); s.Leader != nil && *s.Leader == a.name {
				second = a
			}
		}
		return second != nil
	})
	t.Logf("%s leads on the other side after %v", second.name, time.Since(began).Round(10*time.Millisecond))

	admin := cond.control(t)
	operate := func(op, config string) error {
		_, err := admin.Do(conductorsim.ControlRequest{Do: "admin", User: "ann", Op: op, Config: config})
		return err
	}
	for round := 0; round < 5 || round < 25 && time.Since(began) < 15*time.Second; round++ {
		for i := range 4 {
			ban(left[i%3], fmt.Sprintf("198.51.100.%d/32", 10*round+i))
			ban(right[i%2], fmt.Sprintf("203.0.113.%d/32", 10*round+i))
		}
		if round > 0 {
			unban(left[round%3], fmt.Sprintf("198.51.100.%d/32", 10*(round-1)))
			unban(right[round%2], fmt.Sprintf("203.0.113.%d/32", 10*(round-1)))
		}
		// An administrator gets his work done between the two leaders.
		eventually(t, 30*time.Second, "an administrator to get the lock", func() bool { return operate("lock", "") == nil })
		for _, step := range [][2]string{{"edit", fmt.Sprintf(mark, fmt.Sprintf("mark%d", round))}, {"commit", ""}, {"unlock", ""}} {
			if err := operate(step[0], step[1]); err != nil {
				t.Fatal(err)
			}
		}
		tenantBecomes(t, 30*time.Second, cond, want)
	}

	t.Log("what both sides know, and only one side lifts, stays lifted")
	unban(left[1], "192.0.2.2/32")
	unban(right[1], "192.0.2.3/32")
	tenantBecomes(t, 20*time.Second, cond, want)
	t.Log("lifted on one side, banned anew on the other: the new ban is still banned")
	unban(left[1], "192.0.2.4/32")
	tenantBecomes(t, 20*time.Second, cond, want)
	ban(right[1], "192.0.2.4/32")
	t.Log("banned on both sides, lifted on one: the other's ban is still banned")
	ban(left[0], "192.0.2.77/32")
	eventually(t, 20*time.Second, "the first ban", func() bool { return slices.Contains(cond.running(t), "192.0.2.77/32") })
	ban(right[0], "192.0.2.77/32")
	d.unban(left[0], "192.0.2.77/32")
	eventually(t, 20*time.Second, "the first side to remove it", func() bool {
		list := left[0].banned("192.0.2.77/32")
		return list == nil && left[0].status().Commit.State == "idle"
	})

	for _, side := range []struct {
		agents []*agent
		failed int
	}{{left, 2}, {right, 3}} {
		for _, a := range side.agents {
			eventually(t, 60*time.Second, a.name+" to give up on the other side", func() bool { return a.status().Members.Failed == side.failed })
		}
	}
	for _, side := range [][]*agent{left, right} {
		if !slices.ContainsFunc(side, func(a *agent) bool { return a.status().Commit.Commits > 0 }) {
			t.Errorf("%s's side committed nothing", side[0].name)
		}
	}
	eventually(t, 2*time.Minute, "the cut to be a minute old", func() bool { return time.Since(began) >= time.Minute })
	t.Logf("cut for %v", time.Since(began).Round(time.Second))
	// On a busy machine a leader may have been silent for long enough to be replaced, with a higher term, at any time until
	// the end.
	claims := map[uint64]*agent{}
	for _, side := range [][]*agent{right, left} { // of equal terms the left one's counts: its name comes first
		lead, _ := leaderOf(t, side)
		claims[lead.status().Term] = lead
	}
	l.heal(0, 1, 2, 3, 4)
	next := agreed(t, healing, all, cond, want)
	highest := slices.Max(slices.Collect(maps.Keys(claims)))
	if term := next.status().Term; term < highest || term == highest && next != claims[highest] {
		t.Errorf("%s leads after the cut with term %d, want %s, whose term %d was higher than the other side's", next.name, term, claims[highest].name, highest)
	}
	content(t, cond, d, "192.0.2.4/32", "192.0.2.77/32")
}

// TestALeaderThatWasAwayPutsNothingBack: L1 | L2, B, C. B bans, L2 commits it; C
// unbans, L2 removes it. L1 knows of neither, or only of the ban.
func TestALeaderThatWasAwayPutsNothingBack(t *testing.T) {
	t.Parallel()
	l := newLab(t, 5)
	cond := l.conductor()
	section := cond.commitTo(steady)
	l1 := l.agent(0, settings{commit: section}).start()
	l2 := l.agent(1, settings{commit: section}).start()
	b := l.agent(2, settings{commit: section, extra: "leader: {eligible: false}\n"}).start()
	c := l.agent(3, settings{commit: section, extra: "leader: {eligible: false}\n"}).start()
	all := []*agent{l1, l2, b, c}
	awaitMembers(t, all, 4)
	if lead, _ := leaderOf(t, all); lead != l1 {
		t.Fatalf("%s leads, want %s", lead.name, l1.name)
	}
	d := deeds{}
	want := map[string]bool{"192.0.2.1/32": true, "192.0.2.2/32": true}
	d.ban(b, "192.0.2.1/32", "192.0.2.2/32")
	tenantBecomes(t, 20*time.Second, cond, want)

	l.cut([]int{0}, []int{1, 2, 3})
	eventually(t, 30*time.Second, "router2 to lead its side", func() bool { s := c.status(); return s.Leader != nil && *s.Leader == l2.name })
	has := func(prefix string, there bool) func() bool {
		return func() bool { return slices.Contains(cond.running(t), prefix) == there }
	}
	d.ban(b, "203.0.113.9/32")
	eventually(t, 20*time.Second, "router2 to commit the ban", has("203.0.113.9/32", true))
	t.Log("router1 commits meanwhile, and so sees it")
	d.ban(l1, "198.51.100.1/32")
	eventually(t, 20*time.Second, "router1's commit", has("198.51.100.1/32", true))
	d.unban(c, "203.0.113.9/32", "192.0.2.2/32")
	eventually(t, 20*time.Second, "router2 to remove them", func() bool { return has("203.0.113.9/32", false)() && has("192.0.2.2/32", false)() })
	for i := 2; i <= 3; i++ {
		prefix := fmt.Sprintf("198.51.100.%d/32", i)
		d.ban(l1, prefix)
		eventually(t, 20*time.Second, "router1's next commit", has(prefix, true))
	}
	if s := l1.status(); s.Leader == nil || *s.Leader != l1.name {
		t.Fatalf("router1 does not lead its side any more: %v", s.Leader)
	}
	want = map[string]bool{"192.0.2.1/32": true, "198.51.100.1/32": true, "198.51.100.2/32": true, "198.51.100.3/32": true}

	l.heal(0, 1, 2, 3)
	agreed(t, healing, all, cond, want)
	d.ban(l1, "198.51.100.4/32")
	want["198.51.100.4/32"] = true
	tenantBecomes(t, 20*time.Second, cond, want)
	content(t, cond, d)
}
