package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestUDPIsClosedInOneDirection: a firewall drops UDP from router1 to router2 and
// lets TCP pass. Bans cross all the same, and both routers say what is wrong.
func TestUDPIsClosedInOneDirection(t *testing.T) {
	t.Parallel()
	l, all := hosts(t, 2)
	awaitMembers(t, all, 2)
	for _, a := range all {
		eventually(t, 20*time.Second, a.name+" to be in sync", func() bool { return a.status().InSync })
	}
	l.refuse(1, "ip saddr "+l.addr(0)+" meta l4proto udp")
	closed := time.Now()
	for i, addr := range []string{"203.0.113.1", "203.0.113.2"} {
		began := time.Now()
		all[i].must("ban", addr, "--for", "1h")
		eventually(t, 20*time.Second, "a ban of "+all[i].name+" to cross", func() bool { return all[1-i].known(addr) })
		t.Logf("the first ban of %s crossed after %v", all[i].name, time.Since(began).Round(10*time.Millisecond))
	}
	for i, want := range []string{"no UDP of this router arrives at router2", "no UDP arrives here from router1"} {
		eventually(t, 30*time.Second, all[i].name+" to say which way UDP is closed", func() bool {
			return slices.ContainsFunc(all[i].status().Warnings, func(w string) bool { return strings.Contains(w, want) })
		})
		t.Logf("%s warns within %v", all[i].name, time.Since(closed).Round(100*time.Millisecond))
	}
	for i, addr := range []string{"203.0.113.3", "203.0.113.4", "203.0.113.5", "203.0.113.6"} {
		began := time.Now()
		all[i%2].must("ban", addr, "--for", "1h")
		eventually(t, 15*time.Second, "a ban of "+all[i%2].name+" to cross", func() bool { return all[1-i%2].known(addr) })
		t.Logf("a ban of %s crossed after %v", all[i%2].name, time.Since(began).Round(10*time.Millisecond))
	}
	for _, a := range all {
		if s := a.status(); s.Members.Alive != 2 {
			t.Errorf("%s has %d members alive: the test proves nothing of UDP alone", a.name, s.Members.Alive)
		}
	}
	l.dropped("cut", 1)
	l.nft(1, "delete table inet cut\n")
	for _, a := range all {
		eventually(t, 30*time.Second, a.name+" to be well again", func() bool {
			s := a.status()
			return s.InSync && !slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, "UDP") })
		})
	}
}
