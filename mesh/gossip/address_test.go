package gossip

import (
	"context"
	"net/netip"
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
