package store

import (
	"testing"
	"time"
)

// TestAThousandCyclesOfAnAddressLeaveFourRecords: ban and unban of one address again and again, at two members in turn and with
// pushes that are lost, leave next to nothing at any member, and none of them bans it in the end.
func TestAThousandCyclesOfAnAddressLeaveFourRecords(t *testing.T) {
	c := newClock()
	nodes := []*node{newNode(t, "a", c, nil), newNode(t, "b", c, nil), newNode(t, "c", c, nil)}
	sent := make([]uint64, len(nodes))
	const address = "192.0.2.1"
	push := func(from, step int) {
		n := nodes[from]
		chunk, last := n.Since(sent[from], 1<<20)
		if chunk == nil {
			return
		}
		sent[from] = last
		for to, p := range nodes {
			if to != from && (step+to)%3 != 0 {
				if _, err := p.Merge(chunk); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	held := func(n *node) (records int) {
		n.mu.RLock()
		defer n.mu.RUnlock()
		for i := n.set.head(mustKey(pfx(address))); i != 0; i = n.set.slab.at(i).next {
			records++
		}
		return records
	}
	most := 0
	for i := range 1000 {
		from := i % 2
		c.add(700 * time.Millisecond)
		nodes[from].ban(address, time.Hour)
		push(from, 2*i)
		c.add(300 * time.Millisecond)
		nodes[from].lift(address)
		push(from, 2*i+1)
		for _, n := range nodes {
			n.Tick(true)
			most = max(most, held(n))
		}
	}
	converge(nodes...)
	for _, n := range nodes {
		if n.live(address) {
			t.Errorf("%s still bans it", n.Head().Log.Origin)
		}
		if k := held(n); k > 4 {
			t.Errorf("%s holds %d records of it, want at most 4", n.Head().Log.Origin, k)
		}
	}
	t.Logf("at most %d records at one member meanwhile", most)
}
