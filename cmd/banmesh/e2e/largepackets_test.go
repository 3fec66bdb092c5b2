package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestLargePacketsAreLost: a path that loses packets of more than 1,200 bytes
// without a word, as tunnels do, lets probes and streams begin and no list pass.
// Both routers say so, with what helps, and the advice helps.
func TestLargePacketsAreLost(t *testing.T) {
	t.Parallel()
	l, all := hosts(t, 2)
	awaitMembers(t, all, 2)
	for h := range 2 {
		l.refuse(h, "iif eth0 meta length > 1200")
	}
	var list strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&list, "10.99.%d.%d\n", i/200, i%200)
	}
	all[0].pipe(list.String(), "import", "-", "--for", "1h")
	const want = "large packets are lost"
	said := func(a *agent) bool {
		return slices.ContainsFunc(a.status().Warnings, func(w string) bool { return strings.Contains(w, want) })
	}
	for _, a := range all {
		eventually(t, 2*time.Minute, a.name+" to say that large packets are lost", func() bool { return said(a) })
	}
	// The advice: the interfaces get a smaller MTU. The path stays as it is.
	for h := range 2 {
		l.ip("-n", l.name(h), "link", "set", "eth0", "mtu", "1200")
	}
	for _, a := range all {
		eventually(t, 2*time.Minute, "all bans at "+a.name+" and no warning", func() bool {
			return a.status().Bans.Live == 4000 && !said(a)
		})
	}
	l.dropped("cut", 1)
}
