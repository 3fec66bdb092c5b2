package store

import (
	"encoding/binary"
	"slices"
)

// A digest lists what its sender holds. On the wire it is the version byte and then [minute, full, entries]. entries is one
// binary with, for each log, its 8-byte hash, its watermark (a varint whose lowest bit says that ranges follow), the ranges
// held beyond it (their count, then for each the gap before it and its length, varints) and 8 bytes of content sum.

const (
	maxDigest       = 8 << 20 // bytes
	maxDigestRanges = 16      // of one log in a digest; anything held beyond them is sent again
)

// digestEntry is what a digest says of one log: which numbers its sender holds or knows to be gone,
// and a sum over the records that count in the root at the digest's minute.
type digestEntry struct {
	held rangeSet
	sum  uint64
}

// digest is what parseDigest makes of another member's. Logs are keyed by the hash of their name,
// which is shorter than the name.
type digest struct {
	minute int64
	full   bool // it names every log that its sender holds
	logs   map[uint64]digestEntry
}

// Root returns the order-free sum of the hashes of all records that count at the minute: those whose retention plus one hour
// ends after it. Equal roots mean equal sets of records.
func (s *Store) Root(minute int64) [16]byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.set.hz.root(minute).bytes()
}

// Digest lists what is held of every log, with its content sum at the minute. It takes about 20 bytes a log.
func (s *Store) Digest(minute int64) []byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	logs := make([]*logState, 0, len(s.set.byID))
	for _, l := range s.set.byID {
		if l != s.own || s.headSeq > 0 {
			logs = append(logs, l)
		}
	}
	return s.digest(minute, true, logs, nil)
}

// DigestOf is Digest for some logs only: the answer is limited to them. It also lists those that are not held.
func (s *Store) DigestOf(minute int64, logs ...LogID) []byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var held []*logState
	var absent []LogID
	for _, id := range logs {
		if l := s.set.byID[id]; l != nil {
			held = append(held, l)
		} else {
			absent = append(absent, id)
		}
	}
	return s.digest(minute, false, held, absent)
}

// digest encodes entries for logs that are held and for some that are not (absent): naming those
// tells the other member that it may send them even though the digest is not full. Called with mu
// held.
func (s *Store) digest(minute int64, full bool, logs []*logState, absent []LogID) []byte {
	diff := s.contents(minute)
	packed := make([]byte, 0, 20*(len(logs)+len(absent)))
	for _, l := range logs {
		packed = appendEntry(packed, l.id, l.held, l.total-l.past+diff[l.index])
	}
	for _, id := range absent {
		packed = appendEntry(packed, id, nil, 0)
	}
	b := make([]byte, 0, len(packed)+24)
	b = append(b, wireVersion)
	b = appendArray(b, 3)
	b = appendInt(b, minute)
	b = appendBool(b, full)
	return appendBin(b, packed)
}

// appendEntry writes a log's entry: its hash, the watermark shifted by one bit that says whether ranges follow, those as distances,
// and the content sum. A log without gaps, which nearly all are, takes 8 bytes, a varint and 8 bytes. Ranges beyond the bound are
// left out: what they hold is sent again.
func appendEntry(b []byte, id LogID, held rangeSet, sum uint64) []byte {
	b = binary.BigEndian.AppendUint64(b, id.hash())
	mark := held.watermark()
	beyond := held
	if mark > 0 {
		beyond = held[1:]
	}
	beyond = beyond[:min(len(beyond), maxDigestRanges)]
	if len(beyond) == 0 {
		b = binary.AppendUvarint(b, mark<<1)
	} else {
		b = binary.AppendUvarint(b, mark<<1|1)
		b = binary.AppendUvarint(b, uint64(len(beyond)))
		last := mark
		for _, g := range beyond {
			b = binary.AppendUvarint(b, g.First-last)
			b = binary.AppendUvarint(b, g.Last-g.First)
			last = g.Last
		}
	}
	return binary.BigEndian.AppendUint64(b, sum)
}

// contents returns, for each log, how its content sum at the minute differs from total − past.
func (s *Store) contents(m int64) map[uint32]uint64 {
	diff := make(map[uint32]uint64)
	var scratch []byte
	one := func(sign uint64) func(*bucket) {
		return func(b *bucket) {
			for _, i := range b.recs {
				var h sum
				h, scratch = s.set.hashInto(scratch, i)
				diff[s.set.slab.at(i).log] += sign * h.hi
			}
		}
	}
	at := s.set.hz.at
	s.set.hz.between(at, m, one(^uint64(0)))
	s.set.hz.between(m, at, one(1))
	return diff
}

// parseDigest refuses a digest that names a log twice: which entry counts would otherwise depend on
// the reader.
func parseDigest(b []byte) (*digest, error) {
	if len(b) > maxDigest {
		return nil, &WireError{"digest too long"}
	}
	r := &reader{b: b}
	checkVersion(r)
	if n := r.array(3); r.ok() && n != 3 {
		r.fail("not a digest")
	}
	d := &digest{logs: make(map[uint64]digestEntry)}
	d.minute = r.int()
	d.full = r.bool()
	p := r.bytes(maxDigest)
	r.end()
	if err := r.err(); err != nil {
		return nil, err
	}
	for len(p) > 0 {
		hash, e, rest, ok := parseEntry(p)
		if !ok {
			return nil, &WireError{"digest entry malformed"}
		}
		if _, twice := d.logs[hash]; twice {
			return nil, &WireError{"digest names a log twice"}
		}
		d.logs[hash], p = e, rest
	}
	return d, nil
}

// parseEntry reads the next entry: 8 bytes of hash; a varint with the highest number up to which
// all are held, and in its lowest bit whether ranges follow; those as pairs of distance and length;
// 8 bytes of sum. A distance of 1 is refused, because the two ranges would be one: each set of
// numbers has one encoding.
func parseEntry(p []byte) (hash uint64, e digestEntry, rest []byte, ok bool) {
	if len(p) < 8 {
		return
	}
	hash, p = binary.BigEndian.Uint64(p), p[8:]
	varint := func() uint64 {
		v, n := binary.Uvarint(p)
		if n <= 0 {
			ok, p = false, nil
			return 0
		}
		p = p[n:]
		return v
	}
	ok = true
	mark := varint()
	if mark>>1 > maxSeq {
		ok = false
	} else if mark > 1 {
		e.held = append(e.held, seqRange{1, mark >> 1})
	}
	if mark&1 != 0 && ok {
		n := varint()
		ok = ok && n <= maxDigestRanges
		for last := mark >> 1; ok && n > 0; n-- {
			first := varint()
			length := varint()
			if !ok || first < 1 || first > maxSeq-last || length > maxSeq-last-first || first == 1 {
				ok = false
				break
			}
			g := seqRange{last + first, last + first + length}
			e.held = append(e.held, g)
			last = g.Last
		}
	}
	if !ok || len(p) < 8 {
		return hash, e, nil, false
	}
	e.sum = binary.BigEndian.Uint64(p)
	return hash, e, p[8:], true
}

// sortedLogs returns the logs held, by name.
func (s *set) sortedLogs() []LogID {
	out := make([]LogID, 0, len(s.byID))
	for id := range s.byID {
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b LogID) int {
		switch {
		case a.Origin < b.Origin, a.Origin == b.Origin && a.Epoch < b.Epoch:
			return -1
		case a == b:
			return 0
		}
		return 1
	})
	return out
}
