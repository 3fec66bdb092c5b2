package store

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"unicode/utf8"

	"banmesh/store/text"
)

// item is a record in transit: read from a chunk or the file, or about to be written.
type item struct {
	seq          uint64
	kind         Kind
	key          pkey
	start, until Millis
	floor        Millis
	failures     uint32
	jail, text   string // as rec.label
	lift         *liftBody
	prefixes     []netip.Prefix
	gone         []goneRange
	enc          []byte // canonical encoding
}

// liftBody holds the fields that only a Lift has.
type liftBody struct {
	offences  []offence
	dots      []dotRange
	confirmed bool
	retain    Millis      // max(until, the until of every held record that it covers)
	start     Millis      // of the Lift, once it is in the set: its ranges end there, see spans
	sorted    *sortedLift // the sorted form of a large Lift in the set
}

// names reports whether the lift names an offence. It then covers every ban of that offence, also
// one that comes later.
func (b *liftBody) names(origin, jail string, start Millis) bool {
	_, ok := b.naming(origin, jail, start)
	return ok
}

// naming returns the entry that names an offence.
func (b *liftBody) naming(origin, jail string, start Millis) (span, bool) {
	for s := range b.spans {
		if s.jail == jail && s.origin == origin && s.names(start) {
			return s, true
		}
	}
	return span{}, false
}

// covers reports whether the lift names a record by its dot. Everything but bans is lifted that
// way.
func (b *liftBody) covers(id LogID, seq uint64) bool {
	for i := range b.dots {
		if b.dots[i].covers(id, seq) {
			return true
		}
	}
	return false
}

// retained is how long the record itself asks to be kept; a Lift is also kept as long as the records it covers.
func (it *item) retained() Millis { return max(it.until, it.floor) }

// invalid says why a record may not stand in a log, "" if it may. Writer and reader share this one rule, so that nothing is
// acknowledged that peers would refuse. (Prefixes are checked where they are made, see keyOf.)
func (it *item) invalid() string {
	switch {
	case !it.start.sane(), !it.until.saneUntil(), it.until < it.start, it.floor != 0 && !it.floor.saneUntil():
		return "time out of bounds"
	// A floor that adds nothing would be a second encoding of the same record, with another hash.
	case it.floor != 0 && it.floor <= it.until:
		return "floor below until"
	case (it.kind == KindBan || it.kind == KindBlock || it.kind == KindForget) && text.CheckName(it.jail) != nil:
		return "not a name"
	case len(it.text) > maxText:
		return "string too long"
	case !utf8.ValidString(it.text):
		return "text is not UTF-8"
	case len(it.prefixes) > maxNeverBans:
		return "array too long"
	case it.lift != nil:
		return it.lift.invalid()
	case len(it.gone) > maxGone:
		return "array too long"
	}
	for i, g := range it.gone {
		// One order, hence one encoding, of the same ranges.
		if i > 0 && !it.gone[i-1].before(g) {
			return "ranges out of order"
		}
		if g.First == 0 || g.First > g.Last || g.Last > maxSeq {
			return "range out of bounds"
		}
		if g.until < it.start || !g.until.saneUntil() || g.until > it.until {
			return "time out of bounds"
		}
	}
	return ""
}

// invalid returns why a body is not valid, "" if it is. Writer and reader both ask it: what the one
// acknowledges the other can read.
func (b *liftBody) invalid() string {
	if len(b.offences) > maxOffences || len(b.dots) > maxDots {
		return "array too long"
	}
	for i := range b.offences {
		switch o := &b.offences[i]; {
		case text.CheckName(o.Origin) != nil || text.CheckName(o.Jail) != nil:
			return "not a name"
		case !o.Start.sane():
			return "time out of bounds"
		}
	}
	for i := range b.dots {
		switch d := &b.dots[i]; {
		case text.CheckName(d.Log.Origin) != nil:
			return "not a name"
		case d.First == 0 || d.First > d.Last || d.Last > maxSeq:
			return "range out of bounds"
		}
	}
	return ""
}

// appendSpan writes an until as its distance from the start, which takes half the bytes.
func appendSpan(b []byte, start, until Millis) []byte {
	if until == Never {
		return appendNil(b)
	}
	return appendUint(b, uint64(until-start))
}

// append writes the canonical encoding: [kind, seq, ...], in the shortest form of everything.
func (it *item) append(b []byte) []byte {
	b = appendArray(b, recordFields[it.kind])
	b = append(b, byte(it.kind))
	b = appendUint(b, it.seq)
	switch it.kind {
	case KindFreeze, KindBlock, KindForget:
		b = appendUint(b, uint64(it.start))
		if it.kind != KindFreeze {
			b = appendString(b, it.jail)
		}
		return b
	case KindNeverBan:
		b = appendArray(b, len(it.prefixes))
		for _, p := range it.prefixes {
			k, _ := keyOf(p)
			b = appendPrefix(b, k)
		}
	case KindGone:
	default:
		b = appendPrefix(b, it.key)
	}
	b = appendUint(b, uint64(it.start))
	b = appendSpan(b, it.start, it.until)
	switch it.kind {
	case KindBan:
		b = appendString(b, it.jail)
		b = appendUint(b, uint64(it.failures))
		b = appendString(b, it.text)
	case KindAllow:
		b = appendString(b, it.text)
	case KindGone:
		b = appendArray(b, 4*len(it.gone))
		for _, g := range it.gone {
			b = appendUint(b, g.epoch)
			b = appendUint(b, g.First)
			b = appendUint(b, g.Last)
			b = appendSpan(b, it.start, g.until)
		}
		return b
	case KindLift:
		b = appendBool(b, it.lift.confirmed)
		b = appendArray(b, 3*len(it.lift.offences))
		for _, o := range it.lift.offences {
			b = appendString(b, o.Origin)
			b = appendString(b, o.Jail)
			b = appendUint(b, uint64(o.Start))
		}
		b = appendArray(b, 4*len(it.lift.dots))
		for _, d := range it.lift.dots {
			b = appendString(b, d.Log.Origin)
			b = appendUint(b, d.Log.Epoch)
			b = appendUint(b, d.First)
			b = appendUint(b, d.Last)
		}
		return b
	}
	if it.floor == 0 {
		return append(b, 0)
	}
	return appendSpan(b, it.start, it.floor)
}

// names interns the strings of a chunk: most records repeat them.
type names map[string]string

// of returns one copy of each text, however often it occurs: a chunk of bans names the same jail
// and reason a thousand times.
func (n names) of(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := n[string(b)]; ok {
		return s
	}
	s := string(b)
	n[s] = s
	return s
}

func (r *reader) name(n names) string { return n.of(r.text(text.MaxName)) }

// origin reads a member's name outside of a record.
func (r *reader) origin(n names) string {
	s := r.name(n)
	if r.ok() && text.CheckName(s) != nil {
		r.fail("not a name")
	}
	return s
}

func (r *reader) millis() Millis { return Millis(r.int()) }

// span reads an end, which the wire gives as a distance from the start because that is shorter; nil
// stands for no end.
func (r *reader) span(start Millis) Millis {
	if r.isNil() {
		return Never
	}
	d := r.uint()
	if start < 0 || start > latest || d > uint64(latest) { // check before adding: the sum could overflow
		r.fail("time out of bounds")
		return 0
	}
	return start + Millis(d)
}

// record reads one record. known is false for a kind of a newer version: such a record is skipped, and only its number is
// returned.
func (r *reader) record(it *item, n names) (known bool) {
	if !r.fields(it, n) {
		return false
	}
	if reason := it.invalid(); reason != "" {
		r.fail(reason)
	}
	return r.ok()
}

// recordFields is how many fields a record of each kind has on the wire, its kind and its number included.
var recordFields = [kindEnd]int{KindBan: 9, KindLift: 8, KindAllow: 7, KindNeverBan: 6, KindPlaced: 6, KindFreeze: 3, KindBlock: 4, KindGone: 5, KindForget: 4}

// fields reads a record without judging what it says. Their order is the wire's: kind and number first, so that a member of an
// older version can step over a kind that it does not know and still count the number as held.
func (r *reader) fields(it *item, n names) (known bool) {
	length := r.array(64)
	if length < 2 {
		r.fail("record too short")
		return false
	}
	kind := r.uint()
	it.seq = r.uint()
	if it.seq == 0 || it.seq > maxSeq {
		r.fail("number out of bounds")
		return false
	}
	if kind == 0 || kind >= uint64(kindEnd) {
		// Skipped field by field, so that the next record is found.
		for range length - 2 {
			r.skip()
		}
		return false
	}
	it.kind, it.key = Kind(kind), noPrefix
	if length != recordFields[it.kind] {
		r.fail("record of another length")
		return false
	}
	switch it.kind {
	case KindFreeze, KindBlock, KindForget:
		r.standing(it, n)
		return r.ok()
	case KindNeverBan:
		it.prefixes = r.neverBans()
	case KindGone:
	default:
		it.key = r.prefix(it.kind == KindLift)
	}
	it.start = r.millis()
	it.until = r.span(it.start)
	switch it.kind {
	case KindGone:
		it.gone = r.goneRanges(it.start)
		return r.ok()
	case KindLift:
		it.lift = r.liftBody(n)
		it.lift.retain = it.until
		return r.ok()
	case KindBan:
		it.jail = r.name(n)
		f := r.uint()
		if f > 1<<32-1 {
			r.fail("number too large")
		}
		it.failures = uint32(f)
		it.text = n.of(r.text(maxText))
	case KindAllow:
		it.text = n.of(r.text(maxText))
	}
	// A floor at the start is none: append writes 0 for it.
	if floor := r.span(it.start); floor != it.start {
		it.floor = floor
	}
	return r.ok()
}

// standing reads what has no end of its own: a freeze and a block hold until they are lifted, a forget for forgetHolds.
func (r *reader) standing(it *item, n names) {
	it.start, it.until = r.millis(), Never
	if it.kind == KindForget {
		it.until = it.start.plus(forgetHolds)
	}
	if it.kind != KindFreeze {
		it.jail = r.name(n) // the origin that it is about
	}
}

func (r *reader) neverBans() []netip.Prefix {
	prefixes := make([]netip.Prefix, 0, r.array(maxNeverBans))
	for range cap(prefixes) {
		if k := r.prefix(false); r.ok() {
			prefixes = append(prefixes, k.prefix())
		}
	}
	return prefixes
}

// goneRanges reads four numbers for each range: the epoch, its first and last number, and how long it is to be remembered,
// counted from start.
func (r *reader) goneRanges(start Millis) []goneRange {
	c := r.array(4 * maxGone)
	if c%4 != 0 {
		r.fail("odd ranges")
		return nil
	}
	gone := make([]goneRange, 0, c/4)
	for range c / 4 {
		gone = append(gone, goneRange{r.uint(), seqRange{r.uint(), r.uint()}, r.span(start)})
	}
	return gone
}

// liftBody reads three values for each offence and four for each range of dots, in flat arrays: one
// array header fewer for each of them.
func (r *reader) liftBody(n names) *liftBody {
	b := &liftBody{confirmed: r.bool()}
	no := r.array(3 * maxOffences)
	if no%3 != 0 {
		r.fail("odd offences")
		return b
	}
	b.offences = make([]offence, 0, no/3)
	for range no / 3 {
		b.offences = append(b.offences, offence{r.name(n), r.name(n), r.millis()})
	}
	nd := r.array(4 * maxDots)
	if nd%4 != 0 {
		r.fail("odd dots")
		return b
	}
	for range nd / 4 {
		b.dots = append(b.dots, dotRange{LogID{r.name(n), r.uint()}, seqRange{r.uint(), r.uint()}})
	}
	return b
}

// sum is the sum of record hashes modulo 2^128. Addition commutes, so equal sets have equal sums whatever the order of arrival.
type sum struct{ hi, lo uint64 }

// add and sub are modulo 2^128 and undo each other in any order, so that a sum depends on what it
// holds and not on how it came there.
func (s *sum) add(o sum) {
	var c uint64
	s.lo, c = bits.Add64(s.lo, o.lo, 0)
	s.hi, _ = bits.Add64(s.hi, o.hi, c)
}

func (s *sum) sub(o sum) {
	var c uint64
	s.lo, c = bits.Sub64(s.lo, o.lo, 0)
	s.hi, _ = bits.Sub64(s.hi, o.hi, c)
}

func (s sum) bytes() (b [16]byte) {
	binary.BigEndian.PutUint64(b[:8], s.hi)
	binary.BigEndian.PutUint64(b[8:], s.lo)
	return b
}

// hashRecord is the first half of SHA-256 over the log's name and the record's canonical encoding, one behind the other, and so
// over its dot and body.
func hashRecord(named []byte) sum {
	h := sha256.Sum256(named)
	return sum{binary.BigEndian.Uint64(h[:8]), binary.BigEndian.Uint64(h[8:16])}
}
