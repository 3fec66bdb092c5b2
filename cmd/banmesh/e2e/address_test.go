package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestHostsWithABridgeOfTheirOwn: both have docker0 with the same private address
// beside their public one, and the packages' gossip.bind. The route to the other
// says which address is theirs. Where there is none, both are told, and what the
// doctor advises helps.
func TestHostsWithABridgeOfTheirOwn(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	public := func(i int) string { return fmt.Sprintf("203.0.113.%d", i+1) }
	for i := range 2 {
		ns := l.name(i)
		l.ip("-n", ns, "addr", "flush", "dev", "eth0")
		l.ip("-n", ns, "addr", "add", public(i)+"/24", "dev", "eth0")
		l.ip("-n", ns, "link", "add", "docker0", "type", "bridge")
		l.ip("-n", ns, "addr", "add", "172.17.0.1/16", "dev", "docker0")
		l.ip("-n", ns, "link", "set", "docker0", "up")
	}
	host := func(i int, advertise string, join bool) *agent {
		s := settings{wrap: l.inside(i), gossip: fmt.Sprintf("{bind: \"0.0.0.0:7946\", advertise: %q, keyring: %s}", advertise, l.keyring)}
		if join {
			s.peers = []string{public(1-i) + ":7946"}
		}
		return newAgent(t, fmt.Sprintf("router%d", i+1), s).start()
	}
	told := func(a *agent, what, fix string) bool {
		found, _ := examined(t, a)
		return slices.ContainsFunc(found, func(f finding) bool {
			return f.Severity == "serious" && strings.Contains(f.What, what) && strings.Contains(f.Fix, fix)
		})
	}

	// The first one joins nobody and has no route: it tells 172.17.0.1.
	one, two := host(0, "", false), host(1, "", true)
	if !told(one, "a guess among 172.17.0.1, 203.0.113.1", "gossip.advertise") && !told(one, "a guess among 203.0.113.1, 172.17.0.1", "gossip.advertise") {
		t.Error("router1 does not say that its address is a guess")
	}
	eventually(t, 20*time.Second, "router2 to say what router1 says", func() bool {
		return told(two, "router1 says that it is at 172.17.0.1:7946", "set gossip.advertise there")
	})
	one.kill()
	one = host(0, public(0), false)
	all := []*agent{one, two}
	one.must("ban", "198.51.100.1", "--for", "1h")
	eventually(t, 60*time.Second, "a ban to cross once that was done", func() bool { return two.known("198.51.100.1") })
	for _, a := range all {
		// The old address of a member that fell silent is believed for half a minute.
		eventually(t, 90*time.Second, a.name+" to warn no more", func() bool { return !strings.Contains(fmt.Sprint(a.status().Warnings), "172.17.0.1") })
	}
	for _, a := range all {
		if told(a, "172.17.0.1", "") {
			t.Errorf("the doctor of %s finds it still", a.name)
		}
		a.kill()
	}

	// Each joins the other: no address is guessed.
	one, two = host(0, "", true), host(1, "", true)
	awaitMembers(t, []*agent{one, two}, 2)
	two.must("ban", "198.51.100.2", "--for", "1h")
	eventually(t, 10*time.Second, "a ban to cross", func() bool { return one.known("198.51.100.2") })
	for _, a := range []*agent{one, two} {
		if w := fmt.Sprint(a.status().Warnings); strings.Contains(w, "172.17.0.1") {
			t.Errorf("%s warns: %s", a.name, w)
		}
	}
}

// TestHostsWithIPv6Alone need no configuration of their own: the packages' gossip.bind, 0.0.0.0, takes IPv6 as well.
func TestHostsWithIPv6Alone(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	var all []*agent
	for i := range 2 {
		l.ip("-n", l.name(i), "addr", "flush", "dev", "eth0")
		l.ip("-n", l.name(i), "addr", "add", fmt.Sprintf("2001:db8::%d/64", i+1), "dev", "eth0", "nodad")
	}
	for i := range 2 {
		all = append(all, newAgent(t, fmt.Sprintf("router%d", i+1), settings{
			wrap: l.inside(i), gossip: fmt.Sprintf("{bind: \"0.0.0.0:7946\", keyring: %s}", l.keyring), peers: []string{fmt.Sprintf("[2001:db8::%d]:7946", 2-i)},
		}).start())
	}
	awaitMembers(t, all, 2)
	for i, a := range all {
		if want := fmt.Sprintf("[2001:db8::%d]:7946", i+1); a.addr() != want {
			t.Errorf("%s tells the others %s, want %s", a.name, a.addr(), want)
		}
	}
	all[0].must("ban", "198.51.100.1", "--for", "1h")
	eventually(t, 10*time.Second, "the ban to cross", func() bool { return all[1].known("198.51.100.1") })
	for _, a := range all {
		eventually(t, 10*time.Second, a.name+" to be in sync and to warn of nothing", func() bool { s := a.status(); return s.InSync && len(s.Warnings) == 0 })
	}
}
