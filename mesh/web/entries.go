package web

import (
	"cmp"
	"net/netip"
	"slices"

	"banmesh/netconfclient/prefixset"
	"banmesh/store"
)

// entry is what is blocked, and until when.
type entry struct {
	prefix netip.Prefix
	until  store.Millis
}

// read takes the effective set of a family, 0 for both, sorted.
func read(set Set, family uint8) []entry {
	var all []entry
	for b := range set.Effective() { // the set is locked meanwhile
		if family != 0 && b.Prefix.Addr().Is4() != (family == 4) {
			continue
		}
		for _, p := range b.Pieces {
			all = append(all, entry{p, b.Until})
		}
	}
	slices.SortFunc(all, func(a, b entry) int {
		return cmp.Or(prefixset.Compare(a.prefix, b.prefix), cmp.Compare(b.until, a.until))
	})
	// A piece of one ban may be another ban: it is blocked until the later end.
	return slices.CompactFunc(all, func(a, b entry) bool { return a.prefix == b.prefix })
}

// aggregated covers the same with as few prefixes as possible, sorted as they
// came. Each ends when the first of what is in it does: then it must be asked
// for again.
func aggregated(all []entry) []entry {
	out := all[:0:0]
	for _, e := range all {
		if last := len(out) - 1; last >= 0 && out[last].prefix.Contains(e.prefix.Addr()) {
			out[last].until = min(out[last].until, e.until)
			continue // the wider one comes first
		}
		out = append(out, e)
		for len(out) > 1 {
			left, right := &out[len(out)-2], out[len(out)-1]
			whole, ok := halves(left.prefix, right.prefix)
			if !ok {
				break
			}
			*left = entry{whole, min(left.until, right.until)}
			out = out[:len(out)-1]
		}
	}
	return out
}

// halves returns the prefix of which two are the halves, the lower one first.
func halves(a, b netip.Prefix) (whole netip.Prefix, ok bool) {
	if a.Bits() != b.Bits() || a.Bits() == 0 || a.Addr().BitLen() != b.Addr().BitLen() {
		return netip.Prefix{}, false
	}
	whole = netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
	return whole, whole.Addr() == a.Addr() && whole.Contains(b.Addr())
}
