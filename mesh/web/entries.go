package web

import (
	"cmp"
	"net/netip"
	"slices"

	"go4.org/netipx"

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

// aggregated covers the same with as few prefixes as possible. Each ends when
// the first of what is in it does: then it must be asked for again.
func aggregated(all []entry) ([]entry, error) {
	var b netipx.IPSetBuilder
	for _, e := range all {
		b.AddPrefix(e.prefix)
	}
	set, err := b.IPSet()
	if err != nil {
		return nil, err
	}
	prefixes := set.Prefixes()
	out := make([]entry, len(prefixes))
	i := 0
	for n, p := range prefixes {
		out[n] = entry{p, store.Never}
		for ; i < len(all) && p.Contains(all[i].prefix.Addr()); i++ {
			out[n].until = min(out[n].until, all[i].until)
		}
	}
	return out, nil
}
