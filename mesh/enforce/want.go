package enforce

import (
	"iter"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"banmesh/store"
)

// wanted is everything that should be dropped; it may miss what changes meanwhile.
func wanted(set replicatedSet) lists {
	var l lists
	gather(&l, set.EffectiveParts(), nil)
	for f := range l {
		l[f] = flatten(l[f])
	}
	return l
}

// wantedIn is what should be dropped in some regions, which are disjoint.
func wantedIn(set replicatedSet, regions []netip.Prefix) lists {
	var out lists
	for _, p := range regions {
		var l lists
		f, region := spanOf(p, 0)
		gather(&l, set.EffectiveIn(p), &region)
		out[f] = append(out[f], flatten(l[f])...)
	}
	return out
}

// gather adds the pieces of bans, cut to a region of their family if one is given.
func gather(l *lists, bans iter.Seq[store.EffectiveBan], region *span) {
	for b := range bans {
		if b.Held {
			continue
		}
		for _, p := range b.Pieces {
			f, s := spanOf(p, b.Until)
			if region != nil {
				if !s.overlaps(*region) {
					continue
				}
				if s.from.less(region.from) {
					s.from = region.from
				}
				if region.to.less(s.to) {
					s.to = region.to
				}
			}
			l[f] = append(l[f], s)
		}
	}
}

// disjoint sorts prefixes and leaves out those that lie within another.
// Of two prefixes one contains the other or they are apart, so that comparing with the last one kept is enough.
func disjoint(prefixes []netip.Prefix) []netip.Prefix {
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	out := prefixes[:0]
	for _, p := range prefixes {
		if n := len(out); n == 0 || !out[n-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out
}

// shifted returns where two sets of exemptions differ.
// Both directions: what is exempt no more must be dropped again.
func shifted(was, is *netipx.IPSet) []netip.Prefix {
	if was == is || was.Equal(is) {
		return nil
	}
	var b, c netipx.IPSetBuilder
	b.AddSet(was)
	b.RemoveSet(is)
	c.AddSet(is)
	c.RemoveSet(was)
	lost, err := b.IPSet()
	if err != nil { // only invalid prefixes fail, and no set holds one
		return nil
	}
	won, err := c.IPSet()
	if err != nil {
		return nil
	}
	return append(lost.Prefixes(), won.Prefixes()...)
}
