package store

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func inJail(name string) func(*BanRequest) { return func(q *BanRequest) { q.Jail = name } }

// seen is what Effective says of a prefix: how many members, and of them how many in each jail.
func (n *node) seen(prefix string) (origins int, jails []JailSeen) {
	for e := range n.Effective() {
		if e.Prefix == pfx(prefix) {
			return e.Origins, slices.Clone(e.Jails)
		}
	}
	return 0, nil
}

func (n *node) wantSeen(t *testing.T, prefix string, origins int, jails ...JailSeen) {
	t.Helper()
	if o, j := n.seen(prefix); o != origins || !slices.Equal(j, jails) {
		t.Errorf("%s: seen by %d members, %v; want %d, %v", prefix, o, j, origins, jails)
	}
}

func TestSightingsCountMembersOfEachJail(t *testing.T) {
	c := newClock()
	a, b, d := newNode(t, "a", c, nil), newNode(t, "b", c, nil), newNode(t, "d", c, nil)
	a.ban("192.0.2.1", time.Hour, inJail("sshd"))
	a.ban("192.0.2.1", time.Hour, inJail("nginx"))
	b.ban("192.0.2.1", 2*time.Hour, inJail("sshd"))
	d.ban("192.0.2.1", 3*time.Hour, inJail("recidive"))
	d.ban("192.0.2.2", time.Hour, inJail("sshd"))
	converge(a, b, d)
	for _, n := range []*node{a, b, d} {
		n.wantSeen(t, "192.0.2.1", 3, JailSeen{"nginx", 1}, JailSeen{"recidive", 1}, JailSeen{"sshd", 2})
		n.wantSeen(t, "192.0.2.2", 1, JailSeen{"sshd", 1})
	}

	t.Log("what is blocked does not count")
	a.must(a.Block(context.Background(), "b"))
	a.wantSeen(t, "192.0.2.1", 2, JailSeen{"nginx", 1}, JailSeen{"recidive", 1}, JailSeen{"sshd", 1})
	for _, r := range a.List(Query{Prefix: pfx("192.0.2.1")})[0].Records {
		if r.Ignored != (r.Origin == "b") {
			t.Errorf("record of %s: ignored %v", r.Origin, r.Ignored)
		}
	}
	a.must(a.Unblock(context.Background(), "b"))

	t.Log("nor does what has expired")
	c.add(90 * time.Minute)
	a.Tick(true)
	a.wantSeen(t, "192.0.2.1", 2, JailSeen{"recidive", 1}, JailSeen{"sshd", 1})
}

func TestSightingsCountAMemberOnceOverItsRestarts(t *testing.T) {
	a := newNode(t, "a", newClock(), nil)
	a.ban("192.0.2.1", time.Hour, startAt(a.clock.millis()-100_000))
	a = a.reopen()
	a.ban("192.0.2.1", 2*time.Hour)
	a.wantSeen(t, "192.0.2.1", 1, JailSeen{"sshd", 1})
}

func TestSightingsOfManyMembers(t *testing.T) {
	c := newClock()
	var nodes []*node
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		n := newNode(t, name, c, nil)
		n.ban("192.0.2.1", time.Hour)
		nodes = append(nodes, n)
	}
	converge(nodes...)
	nodes[3].wantSeen(t, "192.0.2.1", 10, JailSeen{"sshd", 10})
}

func TestWalkOverTheEffectiveBansCountsInOneBuffer(t *testing.T) {
	a := newNode(t, "a", newClock(), nil)
	reqs := make([]BanRequest, 1000)
	for i := range reqs {
		reqs[i] = a.request("192.0.2.1", time.Hour)
		reqs[i].Prefix = pfx("198.18.0.0")
		addr := reqs[i].Prefix.Addr().As4()
		addr[2], addr[3] = byte(i>>8), byte(i)
		reqs[i].Prefix = netip.PrefixFrom(netip.AddrFrom4(addr), 32)
	}
	_, err := a.Ban(context.Background(), reqs)
	a.must(err)
	var first *JailSeen
	n := 0
	for e := range a.Effective() {
		if first == nil {
			first = &e.Jails[0]
		}
		if &e.Jails[0] != first {
			t.Fatal("each ban has its own slice of jails: a million of them cost memory")
		}
		n++
	}
	if n != len(reqs) {
		t.Errorf("%d effective bans, want %d", n, len(reqs))
	}
}

func TestEffectiveBanSaysWhetherAPeerMadeIt(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	a.ban("192.0.2.1", time.Hour)
	a.ban("192.0.2.2", time.Hour)
	b.ban("192.0.2.2", time.Minute)
	b.ban("192.0.2.3", time.Hour)
	converge(a, b)
	want := func(n *node, prefixes ...string) {
		t.Helper()
		var got []string
		for e := range n.Effective() {
			if e.ByPeer {
				got = append(got, e.Prefix.Addr().String())
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, prefixes) {
			t.Errorf("%s: bans of peers %q, want %q", n.cfg.Origin, got, prefixes)
		}
	}
	want(a, "192.0.2.2", "192.0.2.3")
	want(b, "192.0.2.1", "192.0.2.2")
	a = a.reopen()
	want(a, "192.0.2.2", "192.0.2.3")

	t.Log("what is blocked or over does not count")
	a.must(a.Block(context.Background(), "b"))
	want(a)
	a.must(a.Unblock(context.Background(), "b"))
	c.add(2 * time.Minute)
	a.Tick(true)
	want(a, "192.0.2.3")
}
