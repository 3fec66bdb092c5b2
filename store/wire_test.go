package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"pgregory.net/rapid"
)

// everyKind is one record of each kind, with all that it can hold.
func everyKind() []item {
	return []item{
		{seq: 1, kind: KindBan, key: mustKey(pfx("192.0.2.1")), start: 1_800_000_000_000, until: 1_800_000_600_000, floor: Never, failures: math.MaxUint32, jail: "sshd", text: "five failures"},
		{seq: 2, kind: KindBan, key: mustKey(pfx("2001:db8::/32")), start: 0, until: Never, jail: "j"},
		{seq: 300, kind: KindLift, key: mustKey(pfx("192.0.2.0/24")), start: 5, until: 6, lift: &liftBody{confirmed: true, retain: 6,
			offences: []offence{{"a", "sshd", 7}, {"b", "web", latest}}, dots: []dotRange{{LogID{"c", math.MaxUint64}, seqRange{1, maxSeq}}}}},
		{seq: 70000, kind: KindAllow, key: mustKey(pfx("10.0.0.0/8")), start: 5, until: 600, floor: 601, text: "büro"},
		{seq: 70001, kind: KindNeverBan, key: noPrefix, start: 5, until: 6, prefixes: prefixes("10.0.0.0/8", "fd00::/16")},
		{seq: 70002, kind: KindPlaced, key: mustKey(pfx("192.0.2.1")), start: 5, until: latest},
		{seq: 1 << 33, kind: KindFreeze, key: noPrefix, start: 5, until: Never},
		{seq: maxSeq - 1, kind: KindForget, key: noPrefix, start: 5, until: Millis(5).plus(forgetHolds), jail: "dead"},
		{seq: maxSeq, kind: KindBlock, key: noPrefix, start: 5, until: Never, jail: "rogue"},
	}
}

func everyKindChunk() []byte {
	w := chunkMaker{id: LogID{"router1", 0xfeedfacecafebeef}}
	for _, it := range everyKind() {
		w.add(it)
	}
	return w.bytes()
}

func TestRecordsSurviveTheWire(t *testing.T) {
	c, err := parseChunk(everyKindChunk())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range everyKind() {
		got := c.items[i]
		if enc := want.append(nil); !bytes.Equal(enc, got.enc) {
			t.Errorf("%v: %x, want %x", want.kind, got.enc, enc)
		}
		if got.seq != want.seq || got.key != want.key || got.start != want.start || got.until != want.until || got.floor != want.floor ||
			got.failures != want.failures || got.jail != want.jail || got.text != want.text || !slices.Equal(got.prefixes, want.prefixes) {
			t.Errorf("%v: %+v, want %+v", want.kind, got, want)
		}
	}
}

// TestWireIsMsgpack reads what is written by hand with the library that the mesh uses elsewhere.
func TestWireIsMsgpack(t *testing.T) {
	h := &codec.MsgpackHandle{}
	h.RawToString = false
	for name, b := range map[string][]byte{"chunk": everyKindChunk(), "digest": (&digestBuilder{minute: -5, full: true, packed: make([]byte, 300)}).bytes()} {
		var v []any
		d := codec.NewDecoderBytes(b[1:], h)
		if err := d.Decode(&v); err != nil || d.NumBytesRead() != len(b)-1 {
			t.Fatalf("%s: %v after %d of %d bytes", name, err, d.NumBytesRead(), len(b)-1)
		}
		var again []byte
		if err := codec.NewEncoderBytes(&again, h).Encode(v); err != nil || len(again) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
	}
	var v []any
	if err := codec.NewDecoderBytes(everyKindChunk()[1:], h).Decode(&v); err != nil {
		t.Fatal(err)
	}
	records := v[3].([]any)
	if len(records) != len(everyKind()) {
		t.Fatalf("%d records", len(records))
	}
	ban := records[0].([]any)
	if len(ban) != 9 || !bytes.Equal(ban[2].([]byte), []byte{192, 0, 2, 1, 32}) {
		t.Errorf("ban %v", ban)
	}
}

func TestMalformedChunksAreRefusedWithAReason(t *testing.T) {
	good := everyKindChunk()
	ban := item{seq: 1, kind: KindBan, key: mustKey(pfx("192.0.2.1")), start: 1, until: 2, jail: "j"}
	two := chunkMaker{id: LogID{"r", 1}, ranges: rangeSet{{1, 9}}, n: 2}
	two.buf = ban.append(ban.append(nil))
	for name, test := range map[string]struct {
		b      []byte
		reason string
	}{
		"nothing":          {nil, "truncated"},
		"newer version":    {append([]byte{9}, good[1:]...), "unknown version"},
		"cut":              {good[:len(good)-1], "truncated"},
		"trailing":         {append(slices.Clone(good), 0), "trailing bytes"},
		"huge array":       {[]byte{1, 0xdd, 0xff, 0xff, 0xff, 0xff}, "truncated"},
		"huge string":      {[]byte{1, 0x94, 0xdb, 0xff, 0xff, 0xff, 0xff}, "string too long"},
		"outside ranges":   {append(chunkHeader(nil, LogID{"r", 1}, rangeSet{{5, 6}}, 1), ban.append(nil)...), "record out of order or of range"},
		"same number":      {two.bytes(), "record out of order or of range"},
		"no origin":        {chunkHeader(nil, LogID{"", 1}, nil, 0), "not a name"},
		"ranges overlap":   {chunkHeader(nil, LogID{"r", 1}, rangeSet{{1, 5}, {5, 6}}, 0), "ranges out of order"},
		"range backwards":  {chunkHeader(nil, LogID{"r", 1}, rangeSet{{5, 1}}, 0), "ranges out of order"},
		"range to the end": {chunkHeader(nil, LogID{"r", 1}, rangeSet{{1, math.MaxUint64}}, 0), "ranges out of order"},
		"1 MB":             {make([]byte, maxChunk+1), "chunk too long"},
	} {
		n := newNode(t, "a", newClock(), nil)
		_, err := n.Merge(test.b)
		var w *WireError
		if !errors.As(err, &w) || w.Reason != test.reason {
			t.Errorf("%s: %v, want %q", name, err, test.reason)
		}
		if got := n.Counts(); got.Records != 0 || got.Logs != 1 {
			t.Errorf("%s: left %+v", name, got)
		}
	}
}

// TestRecordsThatCannotBeReadAreSetAsideWithAReason: all beside them count.
func TestRecordsThatCannotBeReadAreSetAsideWithAReason(t *testing.T) {
	c := newClock()
	good := item{kind: KindBan, key: mustKey(pfx("192.0.2.1")), start: c.millis(), until: Never, jail: "j"}
	with := func(f func(*item)) func(byte) []byte {
		return func(seq byte) []byte {
			it := good
			it.seq = uint64(seq)
			f(&it)
			return it.append(nil)
		}
	}
	raw := func(b ...byte) func(byte) []byte { return func(byte) []byte { return b } }
	for name, test := range map[string]struct {
		record   func(seq byte) []byte
		numbered bool // its number can be read
		reason   string
	}{
		"no array":         {raw(0xc0), false, "not an array"},
		"too short":        {raw(0x91, 1), false, "record too short"},
		"seq 0":            {raw(0x93, 6, 0, 5), false, "number out of bounds"},
		"seq overflow":     {raw(append([]byte{0x93, 6}, append(appendUint(nil, math.MaxUint64), 5)...)...), false, "number out of bounds"},
		"another length":   {func(seq byte) []byte { return []byte{0x94, 6, seq, 5, 5} }, true, "record of another length"},
		"another type":     {func(seq byte) []byte { return []byte{0x93, 6, seq, 0xc2} }, true, "not a number"},
		"host bits":        {with(func(it *item) { it.key.lo |= 1; it.key.bits = 120 }), true, "prefix has host bits"},
		"everything":       {with(func(it *item) { it.key = pkey{bits: 96, lo: 0xffff << 32} }), true, "prefix covers everything"},
		"ends before":      {with(func(it *item) { it.until = it.start - 483 }), true, "time out of bounds"},
		"year 2300":        {with(func(it *item) { it.start, it.until = latest+1, latest+2 }), true, "time out of bounds"},
		"long from now":    {with(func(it *item) { it.until = latest + 5 }), true, "time out of bounds"},
		"long jail":        {with(func(it *item) { it.jail = strings.Repeat("x", 300) }), true, "string too long"},
		"jail of garbage":  {with(func(it *item) { it.jail = "\xff" }), true, "text is not UTF-8"},
		"control in jail":  {with(func(it *item) { it.jail = "a\x00" }), true, "not a name"},
		"escape in a jail": {with(func(it *item) { it.jail = "a\x1b[31m" }), true, "not a name"},
	} {
		for at := range 3 {
			records := [][]byte{}
			for i := range 3 {
				it := good
				it.seq, it.key = uint64(i+1), mustKey(addr(i))
				records = append(records, it.append(nil))
			}
			records[at] = test.record(byte(at + 1))
			var seq uint64
			if test.numbered {
				seq = uint64(at + 1)
			}
			b := chunkHeader(nil, LogID{"r", 1}, rangeSet{{1, 3}}, 3)
			for _, r := range records {
				b = append(b, r...)
			}
			n := newNode(t, "a", c, nil)
			m, err := n.Merge(b)
			if err != nil || m.New != 2 || m.Unreadable != 1 {
				t.Errorf("%s at %d: merged %+v, %v", name, at, m, err)
				continue
			}
			for i := range 3 {
				if got := n.marked(m.Log, uint64(i+1)) && n.live(addr(i).String()); got != (i != at) {
					t.Errorf("%s at %d: %s counts: %v", name, at, addr(i), got)
				}
			}
			if u := n.Unreadable(); len(u) != 1 || u[0].Dot != (Dot{m.Log, seq}) || u[0].Reason != test.reason || u[0].InFile {
				t.Errorf("%s at %d: set aside %+v, want %d for %q", name, at, u, seq, test.reason)
			}
		}
	}
}

func TestUnknownKindComesAgainAfterAnUpgrade(t *testing.T) {
	c := newClock()
	n := newNode(t, "a", c, nil)
	id := LogID{"newer", 1}
	known := item{seq: 3, kind: KindBan, key: mustKey(pfx("192.0.2.1")), start: c.millis(), until: Never, jail: "j"}
	b := chunkHeader(nil, id, rangeSet{{1, 3}}, 2)
	b = append(b, 0x94, 99, 2, 0x81, 0xa1, 'k', 0x92, 1, 0xc0, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0) // [99, 2, {k: [1, nil]}, 0.0]
	b = known.append(b)
	m, err := n.Merge(b)
	n.must(err)
	if m.New != 1 || m.Refused != 1 || !n.live("192.0.2.1") {
		t.Errorf("merged %+v", m)
	}
	if !n.Holds(id, 1) || n.Holds(id, 2) {
		t.Error("the number of what was not understood is held: it would never come again")
	}
}

func TestOwnLogIsNotForged(t *testing.T) {
	n := newNode(t, "a", newClock(), nil)
	w := chunkMaker{id: n.Head().Log}
	w.add(item{seq: 1, kind: KindBan, key: mustKey(pfx("192.0.2.1")), start: 1, until: Never, jail: "j"})
	if m, err := n.Merge(w.bytes()); err != nil || m.Refused != 1 || n.live("192.0.2.1") {
		t.Errorf("merged %+v, %v", m, err)
	}
}

func TestDigestIsSmallAndRead(t *testing.T) {
	c := newClock()
	n := newNode(t, "me", c, nil)
	for i := range 1000 {
		w := chunkMaker{id: LogID{"router", uint64(i)}, ranges: rangeSet{{1, 900000}}}
		w.add(item{seq: 1, kind: KindPlaced, key: mustKey(addr(i)), start: c.millis(), until: Never})
		_, err := n.Merge(w.bytes())
		n.must(err)
	}
	d := n.Digest(n.minute())
	if len(d) > 20000 {
		t.Errorf("digest of 1,000 logs takes %d bytes", len(d))
	}
	got, err := parseDigest(d)
	if err != nil || len(got.logs) != 1000 || !got.full || got.minute != n.minute() {
		t.Fatalf("%v %v", got, err)
	}
	for chunk, err := range n.Deltas(d, 1<<18) {
		t.Fatalf("one who holds all is sent %d bytes, %v", len(chunk), err)
	}
}

func TestMalformedDigestYieldsOneError(t *testing.T) {
	n := newNode(t, "a", newClock(), nil)
	n.ban("192.0.2.1", time.Hour)
	entry := appendEntry(nil, LogID{"b", 1}, rangeSet{{1, 5}, {7, 9}}, 3)
	good := (&digestBuilder{full: true, packed: entry}).bytes()
	for name, b := range map[string][]byte{
		"nothing": nil, "version": append([]byte{2}, good[1:]...), "cut": good[:len(good)-1], "trailing": append(slices.Clone(good), 1),
		"cut entry": (&digestBuilder{packed: entry[:len(entry)-1]}).bytes(),
		"twice":     (&digestBuilder{packed: append(slices.Clone(entry), entry...)}).bytes(),
		"overflow":  (&digestBuilder{packed: append(append(make([]byte, 8), binary.AppendUvarint(nil, math.MaxUint64)...), make([]byte, 30)...)}).bytes(),
		"too long":  make([]byte, maxDigest+1),
	} {
		count := 0
		for chunk, err := range n.Deltas(b, 1<<16) {
			count++
			var w *WireError
			if chunk != nil || !errors.As(err, &w) {
				t.Errorf("%s: %d bytes, %v", name, len(chunk), err)
			}
		}
		if count != 1 {
			t.Errorf("%s: yielded %d times", name, count)
		}
	}
}

func TestDigestOfLimitsTheAnswer(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	x := newNode(t, "x", c, nil)
	a.ban("192.0.2.1", time.Hour)
	b.ban("192.0.2.2", time.Hour)
	converge(a, b)
	for chunk, err := range a.Deltas(x.DigestOf(x.minute(), b.Head().Log), 1<<16) {
		x.must(err)
		m, err := x.Merge(chunk)
		x.must(err)
		if m.Log != b.Head().Log {
			t.Errorf("asked for %v, got %v", b.Head().Log, m.Log)
		}
	}
	if x.live("192.0.2.1") || !x.live("192.0.2.2") {
		t.Errorf("list %v", x.List(Query{}))
	}
}

// TestRangesAreSets compares the ranges with the plainest set there is.
func TestRangesAreSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) (r rangeSet, m map[uint64]bool) {
			m = map[uint64]bool{}
			for range rapid.IntRange(0, 8).Draw(t, name) {
				first := rapid.Uint64Range(1, 40).Draw(t, "first")
				last := first + rapid.Uint64Range(0, 6).Draw(t, "length")
				r = r.add(seqRange{first, last})
				for s := first; s <= last; s++ {
					m[s] = true
				}
			}
			return r, m
		}
		a, am := draw("a")
		b, bm := draw("b")
		same := func(what string, r rangeSet, in func(uint64) bool) {
			if !r.wellFormed() || !r.equal(r.joined()) {
				t.Fatalf("%s: %v is not in order", what, r)
			}
			for s := uint64(1); s < 60; s++ {
				if r.contains(s) != in(s) {
					t.Fatalf("%s: %v, %d", what, r, s)
				}
			}
		}
		same("add", a, func(s uint64) bool { return am[s] })
		same("without", a.without(b), func(s uint64) bool { return am[s] && !bm[s] })
		same("clip", a.clip(10, 20), func(s uint64) bool { return am[s] && s >= 10 && s <= 20 })
		same("union", slices.Clone(a).union(b), func(s uint64) bool { return am[s] || bm[s] })
		if w := a.watermark(); w > 0 && (am[w+1] || !am[1]) {
			t.Fatalf("watermark %d of %v", w, a)
		}
	})
}
