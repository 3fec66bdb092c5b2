package commit

import (
	"net/netip"
	"slices"

	"go4.org/netipx"

	"banmesh/internal/ipranges"
)

// comparePrefixes orders by address, then the wider first.
func comparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// setOf returns the builder's set. A builder fails only on invalid prefixes, and everything that gets here has been checked.
func setOf(b *netipx.IPSetBuilder) ipranges.Set {
	s, err := b.IPSet()
	if err != nil {
		s = nil
	}
	return ipranges.Of(s)
}

// setOfPrefixes has the addresses of all prefixes, whose order and overlaps do not matter.
func setOfPrefixes(ps []netip.Prefix) ipranges.Set {
	var b netipx.IPSetBuilder
	for _, p := range ps {
		b.AddPrefix(p)
	}
	return setOf(&b)
}

// prefixesOf returns the fewest prefixes that make up s, and never a /0, which the tenant must not hold: a whole family becomes
// two halves.
func prefixesOf(s ipranges.Set) []netip.Prefix {
	ps := s.Prefixes()
	for i := 0; i < len(ps); i++ {
		if ps[i].Bits() == 0 {
			low := netip.PrefixFrom(ps[i].Addr(), 1)
			high := netip.PrefixFrom(netipx.PrefixLastIP(low).Next(), 1)
			ps[i] = low
			ps = append(ps, high)
		}
	}
	return ps
}

// Joining pays only if it saves this much: a tenant that is a little longer than necessary is better than one that is rewritten
// at each ban of a neighbour.
const (
	slackShare = 4  // one in four
	slackCount = 16 // and some
)

// addSpace adds the fewest prefixes that, together with what is in the tenant already, cover exactly what is effective. It
// joins everything anew only if the tenant has become much longer than necessary.
func (d *draft) addSpace() {
	var b netipx.IPSetBuilder
	// The usual case: everything live is wanted, and nothing is kept out, so the set made for covered is the
	// target.
	plain := !d.frozen && len(d.notBefore) == 0 && !slices.ContainsFunc(d.bans, func(x ban) bool { return !x.wanted })
	if plain {
		b.AddSet(d.liveSpace().IPSet)
	} else {
		for _, x := range d.bans {
			if x.wanted {
				b.AddPrefix(x.prefix)
			}
		}
	}
	for _, p := range d.parts {
		b.AddPrefix(p)
	}
	for p := range d.notBefore {
		if _, there := d.present[p]; !there && d.held(p) {
			b.RemovePrefix(p)
			if d.covered(p) {
				d.plan.byHand = append(d.plan.byHand, p)
			}
		}
	}
	if d.frozen {
		var ours netipx.IPSetBuilder
		for _, p := range d.running {
			if _, ok := d.placed[p]; ok {
				ours.AddPrefix(p)
			}
		}
		// Frozen, nothing may become blocked that is not; what is there may still be cut and joined.
		b.Intersect(setOf(&ours).IPSet)
	}
	stay := setOfPrefixes(d.stay)
	// What has to stay covers this part already.
	b.RemoveSet(stay.IPSet)
	target := setOf(&b)

	var missing netipx.IPSetBuilder
	missing.AddSet(target.IPSet)
	missing.RemoveSet(setOfPrefixes(d.kept).IPSet)
	add := prefixesOf(setOf(&missing))

	whole := target
	if !plain { // otherwise everything kept is in the target
		var b netipx.IPSetBuilder
		b.AddSet(target.IPSet)
		for _, p := range d.kept {
			b.AddPrefix(p)
		}
		b.RemoveSet(stay.IPSet)
		whole = setOf(&b)
	}
	fewest := prefixesOf(whole)
	size, room := len(d.kept)+len(add), d.maxAddresses-d.fixed
	if size > len(fewest)+len(fewest)/slackShare+slackCount || (d.maxAddresses > 0 && size > room && size > len(fewest)) {
		if d.join(fewest) {
			return
		}
	}
	for _, p := range add {
		if !d.there(p) {
			d.plan.Add = append(d.plan.Add, p)
		}
	}
}

// join replaces the tenant's content by the fewest prefixes. It does not if one of those is there already as a foreign one,
// because its owner may remove it.
func (d *draft) join(fewest []netip.Prefix) bool {
	want := make(map[netip.Prefix]struct{}, len(fewest))
	for _, p := range fewest {
		if _, there := d.present[p]; there {
			if _, ours := d.placed[p]; !ours {
				return false
			}
		}
		want[p] = struct{}{}
	}
	kept := d.kept[:0:0]
	for _, p := range d.kept {
		if _, ok := want[p]; ok {
			kept = append(kept, p)
			continue
		}
		d.remove(judged{prefix: p, reason: reasonMerged})
	}
	d.kept = kept
	for _, p := range fewest {
		if !d.there(p) {
			d.plan.Add = append(d.plan.Add, p)
		}
	}
	return true
}
