package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestFullRouterSaysSo: what an attack has left behind is remembered for hours
// after its bans have ended, and as long as that is all that a router may keep it
// takes no new ban. Every router says so.
func TestFullRouterSaysSo(t *testing.T) {
	t.Parallel()
	agents := trio(t, settings{extra: "log: {level: error}\nlimits: {live_per_origin: 100, stored_per_origin: 200}\n"})
	victim := agents[0]
	args := []string{"ban", "--for", "2s"}
	for i := range 250 {
		args = append(args, fmt.Sprintf("198.18.0.%d", i+1))
	}
	if r := victim.run(args...); r.code == 0 || !strings.Contains(r.err, "as many records as it may") {
		t.Errorf("250 bans where 200 may be kept: exit %d, %s", r.code, r.err)
	}
	for _, a := range agents {
		eventually(t, 10*time.Second, "the end of the bans at "+a.name, func() bool { return a.status().Bans.Live == 0 })
		warnings := a.status().Warnings
		if !slices.ContainsFunc(warnings, func(w string) bool {
			return strings.Contains(w, victim.name) && strings.Contains(w, "limits.stored_per_origin")
		}) {
			t.Errorf("%s warns of %q, want that no more of %s is kept", a.name, warnings, victim.name)
		}
	}
	agents[1].must("ban", "198.18.1.1", "--for", "1h")
	for _, a := range agents {
		eventually(t, 5*time.Second, "another router's ban at "+a.name, func() bool { return a.banned("198.18.1.1/32") != nil })
	}
}
