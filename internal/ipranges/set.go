// Package ipranges searches sets of addresses that package netipx walks through, and knows which addresses are one host's.
package ipranges

import (
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// Set is an IPSet that looks up prefixes by binary search. Of netipx, only Contains does so: its ContainsPrefix and OverlapsPrefix
// compare with every range, which takes minutes for a hundred thousand bans beside as many allows. The zero Set is empty, but has no
// IPSet.
type Set struct {
	*netipx.IPSet
	ranges []netipx.IPRange // sorted and disjoint
}

// Of returns s with its ranges at hand; nil is empty.
func Of(s *netipx.IPSet) Set {
	if s == nil {
		s = new(netipx.IPSet)
	}
	return Set{s, s.Ranges()}
}

// from returns the ranges that do not end before the address.
func (s Set) from(a netip.Addr) []netipx.IPRange {
	i, _ := slices.BinarySearchFunc(s.ranges, a, func(r netipx.IPRange, a netip.Addr) int { return r.To().Compare(a) })
	return s.ranges[i:]
}

// ContainsPrefix reports whether all addresses of p are in s.
func (s Set) ContainsPrefix(p netip.Prefix) bool {
	whole := netipx.RangeOfPrefix(p)
	if !whole.IsValid() {
		return false
	}
	rest := s.from(whole.To())
	return len(rest) > 0 && !whole.From().Less(rest[0].From())
}

// OverlapsPrefix reports whether an address of p is in s.
func (s Set) OverlapsPrefix(p netip.Prefix) bool {
	whole := netipx.RangeOfPrefix(p)
	if !whole.IsValid() {
		return false
	}
	rest := s.from(whole.From())
	return len(rest) > 0 && !whole.To().Less(rest[0].From())
}

// Outside returns the part of p that is not in s, as the fewest prefixes.
func (s Set) Outside(p netip.Prefix) []netip.Prefix {
	if !s.OverlapsPrefix(p) {
		return []netip.Prefix{p}
	}
	whole := netipx.RangeOfPrefix(p)
	var b netipx.IPSetBuilder
	b.AddRange(whole)
	for _, r := range s.from(whole.From()) {
		if whole.To().Less(r.From()) {
			break
		}
		b.RemoveRange(r)
	}
	left, err := b.IPSet()
	if err != nil { // a builder fails on invalid ranges only
		return nil
	}
	return left.Prefixes()
}
