package store

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// What a log holds of its numbers decides, not which of two records with one number came first.
func TestTwinsCountInOneOrderWhereverTheyArriveFirst(t *testing.T) {
	c := newClock()
	log := LogID{"author", 7}
	x := forgedBans(t, c, log, 1, "203.0.113.1")
	y := forgedBans(t, c, log, 1, "203.0.113.2")
	z := forgedBans(t, c, log, 1, "203.0.113.3")
	var want []string
	for i, chunks := range [][][]byte{{x, y, z}, {z, y, x}, {y, x, z}} {
		n := newNode(t, fmt.Sprintf("n%d", i), c, nil, func(cfg *Config) { cfg.Limits = Limits{LivePerOrigin: 2} })
		for _, chunk := range chunks {
			n.mergeChunk(chunk)
		}
		var got []string
		for _, e := range n.List(Query{}) {
			if e.Effective {
				got = append(got, e.Prefix.String())
			}
		}
		if slices.Sort(got); i == 0 {
			want = got
		} else if !slices.Equal(got, want) {
			t.Errorf("order %d blocks %q, the first one %q", i, got, want)
		}
	}
}

// A record that replaces one of its own chunk, whose number another record has, must not make the log forget its twins.
func TestATwinReplacedInItsOwnChunkLeavesTheOthersTwins(t *testing.T) {
	c := newClock()
	disk := newMemDisk()
	n, peer := newNode(t, "n", c, disk), newNode(t, "peer", c, nil)
	log := LogID{"author", 7}
	n.mergeChunk(forgedBans(t, c, log, 3, "203.0.113.1"))
	n.mergeChunk(forgedBans(t, c, log, 3, "203.0.113.2"))
	n.mergeChunk(forgedBans(t, c, log, 5, "203.0.113.3"))
	n.mergeChunk(forgedBans(t, c, log, 5, "203.0.113.4", "203.0.113.4")) // 6 replaces 5
	for chunk, err := range n.Deltas(peer.Digest(peer.minute()), 1<<16) {
		peer.must(err)
		peer.mergeChunk(chunk)
	}
	if peer.Root(n.minute()) != n.Root(n.minute()) {
		t.Error("the peer does not get all")
	}
	n.must(n.Close())
	n = newNode(t, "n", c, disk)
	for _, p := range []string{"203.0.113.3", "203.0.113.4"} {
		if !n.live(p) {
			t.Errorf("%s is not in the file", p)
		}
	}
}

// A twin takes the place in the file of a record that its own chunk removes.
func TestATwinWhoseChunkRemovesTheOtherIsInTheFile(t *testing.T) {
	c := newClock()
	disk := newMemDisk()
	n := newNode(t, "n", c, disk)
	log := LogID{"author", 7}
	n.mergeChunk(forgedBans(t, c, log, 5, "203.0.113.3"))
	n.mergeChunk(forgedBans(t, c, log, 5, "203.0.113.4", "203.0.113.3"))
	n.must(n.Close())
	n = newNode(t, "n", c, disk)
	for _, p := range []string{"203.0.113.3", "203.0.113.4"} {
		if !n.live(p) {
			t.Errorf("%s is not in the file", p)
		}
	}
}

// Somebody who writes twins of a router's own bans must not make its guard forget that they are its own.
func TestTwinsOfOwnBansLeaveThemItsOwn(t *testing.T) {
	c := newClock()
	disk := newMemDisk()
	a := newNode(t, "a", c, disk)
	a.ban("203.0.113.1", time.Hour)
	a.mergeChunk(forgedBans(t, c, a.Head().Log, a.Head().Seq, "198.51.100.1"))
	a.ban("203.0.113.2", time.Hour)
	a.must(a.Close())
	a = newNode(t, "a", c, disk)
	own := func(p string) bool {
		key, _ := keyOf(pfx(p))
		i := a.set.head(key)
		return i != 0 && a.set.slab.at(i).is(flagOwn)
	}
	if !own("203.0.113.1") || own("198.51.100.1") {
		t.Errorf("after a restart own ban is own: %v, the forged one: %v", own("203.0.113.1"), own("198.51.100.1"))
	}
}

// A log that is written whole, because the disk had failed, has the same ones of its twins in the file as any other.
func TestALogWrittenWholeKeepsItsOwnOfTwoTwins(t *testing.T) {
	c := newClock()
	disk := newMemDisk()
	a := newNode(t, "a", c, disk)
	a.ban("203.0.113.1", time.Hour)
	log := a.Head().Log
	a.mergeChunk(forgedBans(t, c, log, 1, "198.51.100.1"))
	a.mu.Lock()
	a.pending.rewrite[a.own] = struct{}{}
	a.mu.Unlock()
	a.ban("203.0.113.3", time.Hour)
	a.must(a.Close())
	a = newNode(t, "a", c, disk)
	if !a.live("203.0.113.1") || a.live("198.51.100.1") {
		t.Errorf("the file holds %v", a.List(Query{}))
	}
}

// One who writes many records of one number makes every further one, and every exchange, cost a look at all of them.
func TestTheTwinsOfANumberAreBounded(t *testing.T) {
	c := newClock()
	n, peer := newNode(t, "n", c, nil), newNode(t, "peer", c, nil)
	log := LogID{"author", 7}
	for i := range 2 * maxTwins {
		m, err := n.Merge(forgedBans(t, c, log, 1, fmt.Sprintf("203.0.113.%d", i)))
		n.must(err)
		if took := i < maxTwins; took != (m.New == 1) || took != (m.Refused == 0) {
			t.Errorf("record %d: %+v", i, m)
		}
	}
	peer.pull(n)
	if m := n.minute(); peer.Root(m) != n.Root(m) || peer.set.records != maxTwins {
		t.Errorf("the peer gets %d of %d", peer.set.records, maxTwins)
	}
}
