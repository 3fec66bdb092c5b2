package store

import (
	"fmt"
	"testing"
	"time"
)

// forgedBans writes bans into a log of the author's, from a number on.
func forgedBans(t *testing.T, c *clock, log LogID, first uint64, prefixes ...string) []byte {
	t.Helper()
	var body []byte
	for i, p := range prefixes {
		key, _ := keyOf(pfx(p))
		it := item{seq: first + uint64(i), kind: KindBan, key: key, start: c.millis(), until: c.millis() + hour, jail: "forged"}
		body = it.append(body)
	}
	return append(chunkHeader(nil, log, rangeSet{{first, first + uint64(len(prefixes)) - 1}}, len(prefixes)), body...)
}

func (n *node) mergeChunk(chunk []byte) {
	n.t.Helper()
	_, err := n.Merge(chunk)
	n.must(err)
}

// pullThorough is pull by one whose digests have not led to equal roots.
func (n *node) pullThorough(from *node) {
	n.t.Helper()
	for chunk, err := range from.Thorough(n.Digest(n.minute()), 64<<10) {
		n.must(err)
		n.mergeChunk(chunk)
	}
}

// One who has the key writes the numbers that the author comes to next. If the first to arrive were kept, none of the author's
// bans would ever count.
func TestNumbersTakenBeforeTheirTimeHideNothing(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("late=%v", late), func(t *testing.T) {
			c := newClock()
			disks := []*memDisk{newMemDisk(), newMemDisk(), newMemDisk()}
			a, b, d := newNode(t, "a", c, disks[0]), newNode(t, "b", c, disks[1]), newNode(t, "d", c, disks[2])
			a.ban("203.0.113.1", time.Hour)
			b.pull(a)
			d.pull(a)
			head := a.Head()
			junk := forgedBans(t, c, head.Log, head.Seq+1, "198.51.100.1", "198.51.100.2", "198.51.100.3")
			if !late {
				b.mergeChunk(junk)
			}
			for i := range 3 {
				a.ban(fmt.Sprintf("203.0.113.%d", i+2), time.Hour)
				chunk, _ := a.Since(head.Seq, 1200)
				b.mergeChunk(chunk)
			}
			if late {
				b.mergeChunk(junk)
			}
			check := func(n *node, all bool) {
				t.Helper()
				for i := range 4 {
					if p := fmt.Sprintf("203.0.113.%d", i+1); !n.live(p) {
						t.Errorf("%s: %s of the author is not live", n.cfg.Origin, p)
					}
				}
				for i := range 3 {
					if p := fmt.Sprintf("198.51.100.%d", i+1); all && !n.live(p) {
						t.Errorf("%s: %s is not live", n.cfg.Origin, p)
					}
				}
			}
			check(b, true)
			meet := func(all bool, nodes ...*node) {
				t.Helper()
				for range 3 {
					for _, x := range nodes {
						for _, y := range nodes {
							if x != y {
								x.pullThorough(y)
							}
						}
					}
				}
				m := Minute(c.Now())
				for _, x := range nodes {
					if x.Root(m) != nodes[0].Root(m) {
						t.Errorf("%s and %s differ", x.cfg.Origin, nodes[0].cfg.Origin)
					}
					check(x, all)
				}
			}
			meet(true, a, b, d)
			if logs, records := a.Namesakes(); logs != 1 || records < 3 {
				t.Errorf("the author knows of %d logs with %d records in its name, want one with 3", logs, records)
			}
			for _, n := range []*node{a, b, d} { // the file holds one of two twins
				if err := n.Close(); err != nil {
					t.Fatal(err)
				}
			}
			a, b, d = newNode(t, "a", c, disks[0]), newNode(t, "b", c, disks[1]), newNode(t, "d", c, disks[2])
			meet(!late, a, b, d) // what came late was in no file
			// What is lifted goes, of the twins too, and the other one stays.
			if late {
				b.mergeChunk(junk)
				meet(true, a, b, d)
			}
			a.lift("198.51.100.2")
			for range 3 {
				for _, x := range []*node{b, d} {
					x.pullThorough(a)
				}
			}
			for _, x := range []*node{a, b, d} {
				if x.live("198.51.100.2") || !x.live("203.0.113.3") || !x.live("198.51.100.3") {
					t.Errorf("%s: a lift took its ban's twin, or not its ban", x.cfg.Origin)
				}
			}
		})
	}
}

// A chunk has one record of each number at most, or members of earlier versions would refuse it.
func TestTwinsTravelInChunksOfTheirOwn(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	log := LogID{"author", 7}
	for v := range 3 {
		a.mergeChunk(forgedBans(t, c, log, 1, fmt.Sprintf("203.0.113.%d", 10*v), fmt.Sprintf("203.0.113.%d", 10*v+1)))
	}
	if n := a.set.byID[log].origin.records; n != 6 {
		t.Fatalf("%d records of 2 numbers, want 6", n)
	}
	chunks := 0
	for chunk, err := range a.Deltas(b.Digest(Minute(c.Now())), 1<<16) {
		b.must(err)
		if _, err := parseChunk(chunk); err != nil {
			t.Fatalf("chunk %d: %v", chunks, err)
		}
		b.mergeChunk(chunk)
		chunks++
	}
	if m := Minute(c.Now()); chunks != 3 || a.Root(m) != b.Root(m) || len(b.List(Query{})) != 6 {
		t.Errorf("%d chunks brought %d of 6 bans", chunks, len(b.List(Query{})))
	}
	a.mergeChunk(forgedBans(t, c, log, 1, "203.0.113.0"))
	if n := a.set.byID[log].origin.records; n != 6 {
		t.Errorf("a record that is held counts as a twin: %d", n)
	}
	c.add(4 * time.Hour)
	a.Tick(true)
	if l := a.set.byID[log]; l != nil {
		t.Errorf("a log without records is kept, with %d records", len(l.recs)-l.dead)
	}
}
