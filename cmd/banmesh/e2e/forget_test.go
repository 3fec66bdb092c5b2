package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestAFailedRouterIsForgotten: one that died for good leaves the books of all, and
// no change of keys waits for it; one that lives is not forgotten, and one that
// comes back is a member again.
func TestAFailedRouterIsForgotten(t *testing.T) {
	t.Parallel()
	agents := trio(t, settings{})
	awaitMembers(t, agents, 3)
	one, two, dead := agents[0], agents[1], agents[2]
	dead.must("ban", "203.0.113.3", "--for", "1h")
	eventually(t, 10*time.Second, "its ban", func() bool { return one.banned("203.0.113.3/32") != nil })
	oneLine(t, one.run("forget", dead.name), 1, "alive")
	oneLine(t, one.run("forget", one.name), 1, "this router")
	oneLine(t, one.run("forget", "nobody"), 1, "no member has that name")
	dead.kill()
	state := func(a *agent) string {
		for _, m := range a.members() {
			if m.Name == dead.name {
				return m.State
			}
		}
		return "unknown"
	}
	for _, a := range []*agent{one, two} {
		eventually(t, 30*time.Second, a.name+" to see it fail", func() bool { return state(a) == "failed" })
	}
	one.must("forget", dead.name)
	for _, a := range []*agent{one, two} {
		eventually(t, 10*time.Second, a.name+" to forget it", func() bool { return state(a) == "unknown" })
		s := a.status()
		if s.Members.Failed != 0 || slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, dead.name) }) {
			t.Errorf("%s: %d failed, warnings %q", a.name, s.Members.Failed, s.Warnings)
		}
		if a.banned("203.0.113.3/32") == nil {
			t.Errorf("%s has lost its ban", a.name)
		}
	}
	dead.start()
	awaitMembers(t, agents, 3)
	time.Sleep(2500 * time.Millisecond) // two looks of the agents at what is forgotten: it stays
	awaitMembers(t, agents, 3)
}
