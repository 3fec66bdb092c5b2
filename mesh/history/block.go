package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"net/netip"
	"sync"

	"banmesh/store"
)

// blockLen is how many entries a block holds. The last block is rewritten until it is full, so it must be small; a million
// entries are 2,000 blocks.
const blockLen = 512

// entrySize is the fixed part of an entry in bytes. Its texts are stored once per block.
const entrySize = 56

// The layout of a block: version, 0, number of entries (2 bytes), CRC-32C of all that follows (4), first and last time seen
// (8 each), the entries, then each text with its length (2). All little-endian.
const (
	blockVersion = 1
	headSize     = 24
)

// castagnoli is built on first use, so that commands that never need it do not pay for it.
var castagnoli = sync.OnceValue(func() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) })

// key is a prefix as 128 bits and a length counted in them. IPv4 is mapped into ::ffff:0:0/96, so that both families have one form
// of a fixed size.
type key struct {
	hi, lo uint64
	bits   uint8
}

// keyOf keeps IPv4 in ::ffff:0:0/96, as the store does. An event without a prefix has a length that no prefix
// has.
func keyOf(p netip.Prefix) key {
	if !p.IsValid() {
		return key{bits: math.MaxUint8}
	}
	a := p.Addr().As16()
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return key{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:]), uint8(bits)}
}

func (k key) is4() bool { return k.hi == 0 && k.lo>>32 == 0xffff && k.bits >= 96 }

func (k key) prefix() netip.Prefix {
	if k.bits > 128 {
		return netip.Prefix{}
	}
	var a [16]byte
	binary.BigEndian.PutUint64(a[:8], k.hi)
	binary.BigEndian.PutUint64(a[8:], k.lo)
	if k.is4() {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(a[12:])), int(k.bits)-96)
	}
	return netip.PrefixFrom(netip.AddrFrom16(a), int(k.bits))
}

// overlaps reports whether one of the two covers the other.
func (k key) overlaps(o key) bool {
	n := min(k.bits, o.bits)
	switch {
	// The one without a prefix covers nothing. The families are apart although they share a form: ::/0 is no
	// network around an IPv4 address.
	case max(k.bits, o.bits) > 128 || k.is4() != o.is4():
		return false
	case n <= 64:
		return (k.hi^o.hi)>>(64-n) == 0
	}
	return k.hi == o.hi && (k.lo^o.lo)>>(128-n) == 0
}

// entry is the fixed part of an encoded entry.
// Read in place: a query over a million entries decodes only the fields that it asks for.
type entry []byte

func (e entry) key() key {
	return key{binary.LittleEndian.Uint64(e), binary.LittleEndian.Uint64(e[8:]), e[16]}
}
func (e entry) kind() store.EventKind { return store.EventKind(e[17]) }
func (e entry) jail() uint16          { return binary.LittleEndian.Uint16(e[18:]) }
func (e entry) origin() uint16        { return binary.LittleEndian.Uint16(e[20:]) }
func (e entry) by() uint16            { return binary.LittleEndian.Uint16(e[22:]) }
func (e entry) text() uint16          { return binary.LittleEndian.Uint16(e[24:]) }
func (e entry) failures() uint32      { return binary.LittleEndian.Uint32(e[28:]) }
func (e entry) seen() store.Millis    { return store.Millis(binary.LittleEndian.Uint64(e[32:])) }
func (e entry) start() store.Millis   { return store.Millis(binary.LittleEndian.Uint64(e[40:])) }
func (e entry) until() store.Millis   { return store.Millis(binary.LittleEndian.Uint64(e[48:])) }

// block is up to blockLen entries. It only grows and never changes what it holds, so that a copy of the struct can be read
// while the block grows.
type block struct {
	first   uint64 // the number of its first entry
	entries []byte
	texts   []string
	from    store.Millis // the earliest time seen in it
	to      store.Millis // the latest
}

func (b *block) len() int       { return len(b.entries) / entrySize }
func (b *block) at(i int) entry { return entry(b.entries[i*entrySize : (i+1)*entrySize]) }
func (b *block) end() uint64    { return b.first + uint64(b.len()) }

// event returns an entry as the event that was noted.
func (b *block) event(e entry) store.Event {
	return store.Event{
		Time: e.seen(), Kind: e.kind(), Prefix: e.key().prefix(), Origin: b.texts[e.origin()], Jail: b.texts[e.jail()],
		By: b.texts[e.by()], Text: b.texts[e.text()], Start: e.start(), Until: e.until(), Failures: e.failures(),
	}
}

// builder is a block that grows.
type builder struct {
	block
	index map[string]uint16 // of texts
}

func newBuilder(first uint64) *builder {
	return &builder{block: block{first: first}, index: make(map[string]uint16)}
}

// grow turns a block from the file into one that grows.
func grow(b block) *builder {
	g := &builder{block: b, index: make(map[string]uint16, len(b.texts))}
	for i, s := range b.texts {
		g.index[s] = uint16(i)
	}
	return g
}

// text numbers the texts of a block: most entries share jail, origin and reason with others.
func (b *builder) text(s string) uint16 {
	i, ok := b.index[s]
	if !ok {
		i = uint16(len(b.texts)) // at most four texts per entry: fewer than 65,536
		if len(s) > math.MaxUint16 {
			s = s[:math.MaxUint16]
		}
		b.texts = append(b.texts, s)
		b.index[s] = i
	}
	return i
}

// add appends one entry of fixed size in little-endian order, so that an entry is found by its number. The
// fifth of the small numbers is 0, kept for later use.
func (b *builder) add(e *store.Event) {
	if b.len() == 0 {
		b.from, b.to = e.Time, e.Time
	}
	b.from, b.to = min(b.from, e.Time), max(b.to, e.Time)
	k := keyOf(e.Prefix)
	jail, origin, by, text := b.text(e.Jail), b.text(e.Origin), b.text(e.By), b.text(e.Text)
	le := binary.LittleEndian
	to := le.AppendUint64(b.entries, k.hi)
	to = le.AppendUint64(to, k.lo)
	to = append(to, k.bits, byte(e.Kind))
	for _, n := range [5]uint16{jail, origin, by, text, 0} {
		to = le.AppendUint16(to, n)
	}
	to = le.AppendUint32(to, e.Failures)
	for _, m := range [3]store.Millis{e.Time, e.Start, e.Until} {
		to = le.AppendUint64(to, uint64(m))
	}
	b.entries = to
}

// encode returns the block in the format of the file.
func (b *block) encode() []byte {
	le := binary.LittleEndian
	out := make([]byte, 8, headSize+len(b.entries)+64)
	out = le.AppendUint64(out, uint64(b.from))
	out = le.AppendUint64(out, uint64(b.to))
	out = append(out, b.entries...)
	for _, s := range b.texts {
		out = le.AppendUint16(out, uint16(len(s)))
		out = append(out, s...)
	}
	out[0] = blockVersion
	le.PutUint16(out[2:], uint16(b.len()))
	le.PutUint32(out[4:], crc32.Checksum(out[8:], castagnoli()))
	return out
}

var errDamaged = errors.New("a block of the history is damaged")

// decode parses what encode wrote. The block refers to raw, which must not change.
func decode(first uint64, raw []byte) (b block, err error) {
	le := binary.LittleEndian
	if len(raw) < headSize || raw[0] != blockVersion {
		return b, fmt.Errorf("%w: entry %d", errDamaged, first)
	}
	n := int(le.Uint16(raw[2:]))
	// The number of entries is not part of the sum, so it is bounded by itself.
	if n == 0 || n > blockLen || len(raw) < headSize+n*entrySize || le.Uint32(raw[4:]) != crc32.Checksum(raw[8:], castagnoli()) {
		return b, fmt.Errorf("%w: entry %d", errDamaged, first)
	}
	b = block{
		first: first, entries: raw[headSize : headSize+n*entrySize],
		from: store.Millis(le.Uint64(raw[8:])), to: store.Millis(le.Uint64(raw[16:])),
	}
	for rest := raw[headSize+n*entrySize:]; len(rest) > 0; {
		if len(rest) < 2 || len(rest)-2 < int(le.Uint16(rest)) {
			return b, fmt.Errorf("%w: entry %d", errDamaged, first)
		}
		size := int(le.Uint16(rest))
		b.texts = append(b.texts, string(rest[2:2+size]))
		rest = rest[2+size:]
	}
	// Checked once, so that event need not look at every index that it follows.
	for i := range n {
		e := b.at(i)
		if last := int(max(e.jail(), e.origin(), e.by(), e.text())); last >= len(b.texts) {
			return b, fmt.Errorf("%w: entry %d", errDamaged, first)
		}
	}
	return b, nil
}
