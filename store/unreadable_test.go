package store

import (
	"context"
	"testing"
	"time"
)

// spoiled is a ban that ends before it starts, as earlier versions could write it.
func spoiled(seq uint64, prefix string, now Millis) item {
	return item{seq: seq, kind: KindBan, key: mustKey(pfx(prefix)), start: now, until: now - 483, jail: "manual"}
}

// marked reports whether the number is held, so that nobody need send it.
func (n *node) marked(id LogID, seq uint64) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	l := n.set.byID[id]
	return l != nil && l.held.contains(seq)
}

func soundBan(seq uint64, prefix string, now Millis) item {
	it := spoiled(seq, prefix, now)
	it.until = now + hour
	return it
}

// TestOneUnreadableRecordAmongAThousand: the thousand count, and the one does once it comes whole.
func TestOneUnreadableRecordAmongAThousand(t *testing.T) {
	c := newClock()
	n := newNode(t, "a", c, nil)
	chunk := func(bad uint64) []byte {
		w := chunkMaker{id: LogID{"r", 1}}
		for i := uint64(1); i <= 1001; i++ {
			it := soundBan(i, addr(int(i)).String(), c.millis())
			if i == bad {
				it = spoiled(i, addr(int(i)).String(), c.millis())
			}
			w.add(it)
		}
		return w.bytes()
	}
	m, err := n.Merge(chunk(500))
	if err != nil || m.New != 1000 || m.Unreadable != 1 || n.Counts().Live != 1000 {
		t.Fatalf("merged %+v, %v; %d live", m, err, n.Counts().Live)
	}
	if n.marked(m.Log, 500) || !n.marked(m.Log, 1001) {
		t.Error("what could not be read is held, or its neighbour is not")
	}
	if u := n.Unreadable(); len(u) != 1 || u[0].Dot.Seq != 500 {
		t.Errorf("set aside: %+v", u)
	}
	if m, err := n.Merge(chunk(0)); err != nil || m.New != 1 || len(n.Unreadable()) != 0 || n.Counts().Live != 1001 {
		t.Errorf("its sound copy: %+v, %v; still set aside: %+v", m, err, n.Unreadable())
	}
}

func TestWhatNobodySendsAnyMoreIsNoLongerNamed(t *testing.T) {
	c := newClock()
	n := newNode(t, "a", c, nil)
	send := func() {
		w := chunkMaker{id: LogID{"r", 1}}
		w.add(spoiled(1, "192.0.2.1", c.millis()))
		_, err := n.Merge(w.bytes())
		n.must(err)
	}
	send()
	c.add(9 * time.Minute)
	send()
	c.add(9 * time.Minute)
	if u := n.Unreadable(); len(u) != 1 {
		t.Errorf("nine minutes after it came: %+v", u)
	}
	c.add(time.Minute)
	if u := n.Unreadable(); len(u) != 0 {
		t.Errorf("ten minutes after it came: %+v", u)
	}
}

// TestWhatIsRememberedOfUnreadableRecordsIsBounded: a member that sends nothing else does not push out what comes later.
func TestWhatIsRememberedOfUnreadableRecordsIsBounded(t *testing.T) {
	c := newClock()
	n := newNode(t, "a", c, nil)
	send := func(origin string, count int) {
		w := chunkMaker{id: LogID{origin, 1}}
		for i := range count {
			w.add(spoiled(uint64(i+1), "192.0.2.1", c.millis()))
		}
		_, err := n.Merge(w.bytes())
		n.must(err)
	}
	send("flood", 3*maxUnreadable)
	if got := len(n.Unreadable()); got != maxUnreadable {
		t.Errorf("%d are remembered, want %d", got, maxUnreadable)
	}
	c.add(unreadableFor)
	send("r", 1)
	if u := n.Unreadable(); len(u) != 1 || u[0].Dot.Log.Origin != "r" {
		t.Errorf("%d are named, want that of r", len(u))
	}
}

// TestHolesOfUnknownKindsAreBounded: they are holes like others.
func TestHolesOfUnknownKindsAreBounded(t *testing.T) {
	n := newNode(t, "a", newClock(), nil)
	const records = maxHeldRanges + 2
	b := chunkHeader(nil, LogID{"newer", 1}, rangeSet{{1, 2 * records}}, records)
	for i := range uint64(records - 1) {
		b = append(b, 0x92, 99)
		b = appendUint(b, 2*(i+1))
	}
	last := soundBan(2*records, "192.0.2.1", n.clock.millis())
	b = last.append(b)
	if m, err := n.Merge(b); err == nil || n.Counts().Records != 0 {
		t.Errorf("merged %+v", m)
	}
}

type recordID struct {
	log uint32
	seq uint64
}

// TestAStoreFileWithUnreadableRecordsOpens: wherever they are, all beside them is there, and they are named.
func TestAStoreFileWithUnreadableRecordsOpens(t *testing.T) {
	own, peer := LogID{"a", 7}, LogID{"b", 8}
	for name, bad := range map[string][]recordID{
		"none":            nil,
		"first":           {{1, 1}},
		"middle":          {{1, 2}},
		"last":            {{1, 3}},
		"all of the own":  {{1, 1}, {1, 2}, {1, 3}},
		"first of a peer": {{2, 1}},
		"last of a peer":  {{2, 3}},
		"all of a peer":   {{2, 1}, {2, 2}, {2, 3}},
		"all":             {{1, 1}, {1, 2}, {1, 3}, {2, 1}, {2, 2}, {2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			path, now := storePath(t), At(time.Now())
			prefixOf := func(id recordID) string { return addr(int(id.log)*10 + int(id.seq)).String() }
			isBad := func(id recordID) bool {
				for _, b := range bad {
					if b == id {
						return true
					}
				}
				return false
			}
			d, err := openBolt(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.load(visitor{log: func(logHeader) error { return nil }}); err != nil {
				t.Fatal(err)
			}
			b := &batch{heads: []logHeader{{1, own, rangeSet{{1, 3}}}, {2, peer, rangeSet{{1, 3}}}}}
			var ids []recordID
			for _, log := range []uint32{1, 2} {
				for seq := uint64(1); seq <= 3; seq++ {
					id := recordID{log, seq}
					it := soundBan(seq, prefixOf(id), now)
					if isBad(id) {
						it = spoiled(seq, prefixOf(id), now)
					}
					ids = append(ids, id)
					b.ops = append(b.ops, recordOp{log, seq, it.append(nil)})
				}
			}
			if err := d.commit(b); err != nil {
				t.Fatal(err)
			}
			if err := d.close(); err != nil {
				t.Fatal(err)
			}
			for round := range 2 {
				s := openReal(t, path, "a", nil)
				n := &node{Store: s, t: t}
				for _, id := range ids {
					log := map[uint32]LogID{1: own, 2: peer}[id.log]
					if n.live(prefixOf(id)) == isBad(id) || n.marked(log, id.seq) == isBad(id) {
						t.Errorf("round %d: record %v counts: %v, is held: %v", round, id, n.live(prefixOf(id)), n.marked(log, id.seq))
					}
				}
				if round == 0 && len(n.Unreadable()) != len(bad) {
					t.Errorf("set aside: %+v", n.Unreadable())
				}
				for _, u := range n.Unreadable() {
					if !u.InFile || u.Reason != "time out of bounds" {
						t.Errorf("set aside: %+v", u)
					}
				}
				if _, err := n.Ban(context.Background(), []BanRequest{{Prefix: addr(100 + round), Until: Never}}); err != nil {
					t.Fatal(err)
				}
				n.must(n.Close())
			}
			n := &node{Store: openReal(t, path, "a", nil), t: t}
			if !n.live(addr(100).String()) || !n.live(addr(101).String()) || n.Doubt() != "" {
				t.Errorf("what was banned after is lost; in doubt: %q", n.Doubt())
			}
		})
	}
}

// TestARecordUnderAnotherNumberIsSetAside: it would be found by neither.
func TestARecordUnderAnotherNumberIsSetAside(t *testing.T) {
	c := newClock()
	n := newNode(t, "a", c, nil)
	n.ban("192.0.2.1", time.Hour)
	n.ban("192.0.2.2", time.Hour)
	n.must(n.Close())
	d := n.disk.clone()
	for _, records := range d.records {
		it := soundBan(9, "192.0.2.1", c.millis())
		records[1] = it.append(nil)
	}
	again := newNode(t, "a", c, d)
	if again.live("192.0.2.1") || !again.live("192.0.2.2") || len(again.Unreadable()) != 1 {
		t.Errorf("list %v, set aside %+v", again.List(Query{}), again.Unreadable())
	}
}

// TestAnUnreadableNoticeIsDropped: the lift of a spoiled ban left one.
func TestAnUnreadableNoticeIsDropped(t *testing.T) {
	path, now := storePath(t), At(time.Now())
	d, err := openBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.load(visitor{}); err != nil {
		t.Fatal(err)
	}
	notice := Notice{Kind: NoticeUnban, Prefix: pfx("192.0.2.1"), Jail: "manual", Start: now, Until: now - 483}
	sound := notice
	notice.ID, sound.ID, sound.Until = 2, 1, now+hour
	if err := d.commit(&batch{notices: []Notice{sound, notice}}); err != nil {
		t.Fatal(err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s := openReal(t, path, "a", nil)
		if got := s.Notices(); len(got) != 1 || got[0].ID != 1 {
			t.Errorf("notices %+v", got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	d, err = openBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if err := d.load(visitor{notice: func(Notice) {}, meta: func(string, []byte) {}, log: func(logHeader) error { return nil },
		bad: func(id uint64, reason string) { t.Errorf("notice %d is still in the file: %s", id, reason) }}); err != nil {
		t.Fatal(err)
	}
}
