package gossip

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// own is the address of a member, without the port.
func own(t *testing.T, m *Mesh) netip.Addr {
	t.Helper()
	a, err := netip.ParseAddrPort(m.addr())
	if err != nil {
		t.Fatal(err)
	}
	return a.Addr()
}

func TestAMemberWithAnotherAddressMeetsTheOthersAgain(t *testing.T) {
	nodes := realFleet(t, 3)
	m := nodes[0].mesh
	before := m.list.Load()
	if err := m.readdress(own(t, m)); err != nil {
		t.Fatal(err)
	}
	if m.list.Load() == before {
		t.Fatal("the memberlist is the old one: the test proves nothing")
	}
	m.known.round() // not the others' doing
	if n := m.list.Load().NumMembers(); n < 2 {
		t.Errorf("the new memberlist knows %d members after a round: nobody was joined", n)
	}
	until(t, time.Minute, "all see all", func() bool { return m.table.alive() == 3 && m.list.Load().NumMembers() == 3 })
}

func TestAMemberlistThatWasReplacedIsNotHeard(t *testing.T) {
	nodes := realFleet(t, 2)
	m := nodes[0].mesh
	node := m.list.Load().Members()[0]
	if node.Name == m.cfg.Name {
		node = m.list.Load().Members()[1]
	}
	old := delegate{m, m.lists.Load()}
	if err := m.readdress(own(t, m)); err != nil {
		t.Fatal(err)
	}
	until(t, time.Minute, "the other one to be back", func() bool { return m.table.alive() == 2 })
	old.NotifyLeave(node) // as its timer of suspicion does
	if m.table.alive() != 2 {
		t.Error("the old memberlist declared a member failed")
	}
	delegate{m, m.lists.Load()}.NotifyLeave(node)
	old.NotifyJoin(node)
	if m.table.alive() != 1 {
		t.Error("the old memberlist declared a member alive")
	}
}

func TestNoNewAddressAfterTheEnd(t *testing.T) {
	for name, end := range map[string]func(m *Mesh) error{
		"leave":    func(m *Mesh) error { return m.Leave(context.Background()) },
		"shutdown": func(m *Mesh) error { return m.Shutdown() },
	} {
		m := realFleet(t, 1)[0].mesh
		a, before := own(t, m), m.list.Load()
		if err := end(m); err != nil {
			t.Fatal(err)
		}
		if err := m.readdress(a); err != nil || m.list.Load() != before {
			t.Errorf("after %s: another memberlist %v, error %v", name, m.list.Load() != before, err)
		}
	}
}

// Shutdown waits for the loop that looks at the address: that one must not wait for it.
func TestANewAddressWaitsForNoShutdown(t *testing.T) {
	m := realFleet(t, 1)[0].mesh
	m.leaveMu.Lock()
	done := make(chan error, 1)
	go func() { done <- m.readdress(netip.MustParseAddr("127.0.0.1")) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it waits")
	}
	m.leaveMu.Unlock()
}

func TestLeavingWithoutAMemberlist(t *testing.T) {
	m := realFleet(t, 1)[0].mesh
	if err := m.readdress(netip.Addr{}); err == nil {
		t.Fatal("no address was taken for one: the test proves nothing")
	}
	if err := m.Leave(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestAnAddressIsTriedAgainAfterItFailed(t *testing.T) {
	nodes := realFleet(t, 2)
	m := nodes[0].mesh
	if err := m.readdress(netip.Addr{}); err == nil {
		t.Fatal("no address was taken for one: the test proves nothing")
	}
	if err := m.readdress(own(t, m)); err != nil {
		t.Fatal(err)
	}
	until(t, time.Minute, "the other one to be back", func() bool { return m.table.alive() == 2 })
}

func TestWhatIsOddAboutAddressesIsSaid(t *testing.T) {
	addrs := func(s ...string) (out []netip.Addr) {
		for _, a := range s {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	docker := addrs("172.17.0.1", "203.0.113.2", "fe80::1", "2001:db8::2")
	here := addressing{routed: true, here: docker}
	for name, c := range map[string]struct {
		own     string
		a       addressing
		members []Member
		want    []string // words of each, what and fix
	}{
		"nothing":                 {"203.0.113.2:7946", here, []Member{{Name: "b", Addr: "203.0.113.1:7946"}}, nil},
		"on loopback, as it says": {"127.0.0.1:7946", addressing{loopback: true, here: docker}, nil, nil},
		"no address but loopback": {"127.0.0.1:7946", addressing{routed: true}, nil, []string{"told 127.0.0.1:7946|gossip.advertise"}},
		"an address that is gone": {"203.0.113.9:7946", here, nil, []string{"told 203.0.113.9:7946|that address again"}},
		"advertised elsewhere":    {"198.51.100.1:7946", addressing{advertised: true, routed: true, here: docker}, nil, nil},
		"a guess": {"172.17.0.1:7946", addressing{here: docker}, nil,
			[]string{"told 172.17.0.1:7946 as this router's address, which is a guess among 172.17.0.1, 203.0.113.2,|gossip.advertise"}},
		"the only one": {"203.0.113.2:7946", addressing{here: addrs("203.0.113.2", "fe80::1")}, nil, nil},
		"a peer at an address of mine": {"203.0.113.2:7946", here, []Member{{Name: "b", Addr: "172.17.0.1:7946"}},
			[]string{"b says that it is at 172.17.0.1:7946, an address that this host has too (this router is at 203.0.113.2:7946)|gossip.advertise there"}},
		"a peer at my address": {"172.17.0.1:7946", here, []Member{{Name: "b", Addr: "172.17.0.1:7946"}},
			[]string{"b says that it is at 172.17.0.1:7946, which is this router's address|here if 172.17.0.1 is not"}},
		"another agent of this host": {"203.0.113.2:7946", here, []Member{{Name: "b", Addr: "172.17.0.1:7947"}}, nil},
		"one that has left":          {"203.0.113.2:7946", here, []Member{{Name: "b", Addr: "172.17.0.1:7946", State: Left}}, nil},
		"two peers with one address": {"203.0.113.2:7946", here, []Member{{Name: "b", Addr: "172.18.0.1:7946"}, {Name: "c", Addr: "172.18.0.1:7946"}}, []string{"b, c all say that they are at 172.18.0.1:7946|on each"}},
	} {
		got := doubts(netip.MustParseAddrPort(c.own), c.a, c.members)
		if len(got) != len(c.want) {
			t.Errorf("%s: %v, want %q", name, got, c.want)
			continue
		}
		for i, want := range c.want {
			what, fix, _ := strings.Cut(want, "|")
			if !strings.Contains(got[i].What, what) || !strings.Contains(got[i].Fix, fix) {
				t.Errorf("%s: %v, want %q", name, got[i], want)
			}
		}
	}
}
