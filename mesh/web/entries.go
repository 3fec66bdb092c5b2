package web

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"banmesh/store"
)

// entry is a blocked prefix and when the block ends. Numbers instead of netip.Prefix let a feed sort a hundred thousand
// entries in a third of the time.
type entry struct {
	hi, lo uint64 // as IPv6; IPv4 is mapped into it
	until  store.Millis
	bits   uint8 // prefix length in the address's own family
	v6     bool
	taken  bool // from CrowdSec only
}

// newEntry packs a prefix without pointers: a million of them must cost the garbage collector nothing.
func newEntry(p netip.Prefix, until store.Millis) entry {
	a := p.Addr().As16()
	return entry{
		hi: binary.BigEndian.Uint64(a[:8]), lo: binary.BigEndian.Uint64(a[8:]), until: until,
		bits: uint8(p.Bits()), v6: !p.Addr().Is4(),
	}
}

func (e entry) prefix() netip.Prefix {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], e.hi)
	binary.BigEndian.PutUint64(b[8:], e.lo)
	a := netip.AddrFrom16(b)
	if !e.v6 {
		a = a.Unmap()
	}
	return netip.PrefixFrom(a, int(e.bits))
}

// compare orders IPv4 before IPv6, then by address, wider prefixes first, later ends first.
func (e entry) compare(o entry) int {
	switch {
	case e.v6 != o.v6:
		if o.v6 {
			return -1
		}
		return 1
	case e.hi != o.hi:
		return cmp.Compare(e.hi, o.hi)
	case e.lo != o.lo:
		return cmp.Compare(e.lo, o.lo)
	case e.bits != o.bits:
		return cmp.Compare(e.bits, o.bits)
	}
	return cmp.Compare(o.until, e.until)
}

// read reads the effective set of a family, 0 for both, sorted, without bans that are held on this router. takenJail is the
// jail of bans that came from CrowdSec.
func read(set replicatedSet, family uint8, takenJail string) []entry {
	var all []entry
	for b := range set.Effective() { // keep it short: the set is locked meanwhile
		if family == 0 || b.Prefix.Addr().Is4() == (family == 4) {
			all = appendEntries(all, &b, takenJail)
		}
	}
	return distinct(all)
}

// appendEntries adds the pieces of a ban, or nothing if the ban is held.
func appendEntries(to []entry, b *store.EffectiveBan, takenJail string) []entry {
	if b.Held {
		return to
	}
	taken := takenJail != "" && len(b.Seen) > 0
	for _, s := range b.Seen {
		taken = taken && s.Jail == takenJail
	}
	for _, p := range b.Pieces {
		e := newEntry(p, b.Until)
		e.taken = taken
		to = append(to, e)
	}
	return to
}

// distinct sorts entries in place and merges those with the same prefix, since a piece of one ban may be another ban. The
// later end counts.
func distinct(all []entry) []entry {
	slices.SortFunc(all, entry.compare)
	out := all[:0]
	for _, e := range all {
		if n := len(out); n > 0 && out[n-1].hi == e.hi && out[n-1].lo == e.lo && out[n-1].bits == e.bits && out[n-1].v6 == e.v6 {
			out[n-1].taken = out[n-1].taken && e.taken
			continue
		}
		out = append(out, e)
	}
	return out
}

// aggregated covers the same addresses with as few prefixes as possible, in place. Each ends when the first entry in it does:
// by then the feed must be read again.
func aggregated(all []entry) []entry {
	out := all[:0]
	for _, e := range all {
		if last := len(out) - 1; last >= 0 && out[last].covers(e) {
			out[last].until = min(out[last].until, e.until)
			continue // the wider one came first
		}
		out = append(out, e)
		for len(out) > 1 {
			whole, ok := out[len(out)-2].join(out[len(out)-1])
			if !ok {
				break
			}
			out = out[:len(out)-1]
			out[len(out)-1] = whole
		}
	}
	return out
}

// depth returns how many bits of hi and lo belong to the prefix.
func (e entry) depth() uint {
	if e.v6 {
		return uint(e.bits)
	}
	return 96 + uint(e.bits)
}

// cut clears the bits of an address beyond a depth.
func cut(hi, lo uint64, depth uint) (uint64, uint64) {
	if depth <= 64 {
		return hi &^ (^uint64(0) >> depth), 0
	}
	return hi, lo &^ (^uint64(0) >> (depth - 64))
}

// covers reports whether e contains o, which must not sort before e.
func (e entry) covers(o entry) bool {
	hi, lo := cut(o.hi, o.lo, e.depth())
	return e.v6 == o.v6 && e.bits <= o.bits && hi == e.hi && lo == e.lo
}

// join merges two halves into one prefix, the lower half first.
func (e entry) join(o entry) (entry, bool) {
	if e.bits != o.bits || e.bits == 0 || e.v6 != o.v6 {
		return entry{}, false
	}
	hi, lo := cut(o.hi, o.lo, e.depth()-1)
	if hi != e.hi || lo != e.lo {
		return entry{}, false // o is the half of another prefix, or e is itself an upper half
	}
	e.bits--
	e.until = min(e.until, o.until)
	return e, true
}
