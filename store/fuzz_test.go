package store

import (
	"bytes"
	"testing"
)

// FuzzChunk merges any bytes: they change nothing, or leave a set whose every figure is right and that can be sent on.
func FuzzChunk(f *testing.F) {
	f.Add(everyKindChunk())
	w := chunkMaker{id: LogID{"r", 1}, ranges: rangeSet{{1, 3}, {9, 12}}}
	f.Add(w.bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newClock()
		n := newNode(t, "a", c, nil)
		n.ban("192.0.2.1", 1<<40)
		if _, err := n.Merge(b); err != nil {
			return
		}
		again, err := n.Merge(b)
		if err != nil || again.New != 0 {
			t.Fatalf("the second time: %+v, %v", again, err)
		}
		n.Tick(true)
		n.selfCheck(t)
		x := newNode(t, "x", c, nil)
		converge(n, x)
		equalSets(t, n, x)
	})
}

// FuzzRecord reads any bytes as a record of the file: what is read is written again in the same words.
func FuzzRecord(f *testing.F) {
	for _, it := range everyKind() {
		f.Add(it.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var it item
		r := &reader{b: b}
		known := r.record(&it, make(names))
		r.end()
		if !r.ok() || !known {
			return
		}
		enc := it.append(nil)
		var again item
		r = &reader{b: enc}
		if !r.record(&again, make(names)) || len(r.b) > 0 {
			t.Fatalf("%x is written as %x, which is not read: %v", b, enc, r.err())
		}
		if !bytes.Equal(again.append(nil), enc) {
			t.Fatalf("%x is not canonical", enc)
		}
	})
}

// FuzzDigest answers any bytes as a digest.
func FuzzDigest(f *testing.F) {
	c := newClock()
	f.Add((&digestBuilder{full: true}).bytes())
	f.Add((&digestBuilder{minute: Minute(c.Now()), packed: appendEntry(nil, LogID{"b", 1}, rangeSet{{1, 5}, {7, 9}}, 3)}).bytes())
	n := newNode(f, "a", c, nil)
	n.ban("192.0.2.1", 1<<50)
	n.Merge(everyKindChunk())
	f.Fuzz(func(t *testing.T, b []byte) {
		for chunk, err := range n.Deltas(b, 2000) {
			if err != nil {
				return
			}
			if _, err := parseChunk(chunk); err != nil {
				t.Fatalf("the answer is malformed: %v", err)
			}
		}
	})
}

// FuzzFileValues decodes log headers and notices.
func FuzzFileValues(f *testing.F) {
	f.Add(logHeader{disk: 1, id: LogID{"a", 2}, held: rangeSet{{1, 2}, {4, 4}}}.encode())
	f.Add(Notice{ID: 1, Kind: NoticeUnban, Prefix: pfx("192.0.2.1"), Jail: "sshd", Start: 1, Until: 2}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := decodeHeader(1, b); err == nil {
			if _, err := decodeHeader(1, h.encode()[:len(h.encode())-4]); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := decodeNotice(1, b); err == nil && n.ID != 1 {
			t.Fatal("another notice")
		}
	})
}
