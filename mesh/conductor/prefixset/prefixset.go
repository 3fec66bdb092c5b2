// Package prefixset holds what the drivers of a conductor share: it parses a tenant's addresses as tolerantly as devices write
// them, and keeps them as sorted sets of masked prefixes. Its functions have no state. Except for Sort, which works in place,
// they leave their arguments alone.
package prefixset

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Parse reads an address leaf as tolerantly as the servers write it: host bits are masked off, a bare address
// has its full length. exact reports whether the text is in canonical form.
func Parse(text string) (p netip.Prefix, exact, ok bool) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, false, false
		}
		return netip.PrefixFrom(a, a.BitLen()), false, true
	}
	p = p.Masked()
	var buf [64]byte
	return p, string(p.AppendTo(buf[:0])) == text, true
}

// WideOpen reports whether a prefix covers every address of a family, IPv4 in IPv6's mapped spelling included.
func WideOpen(p netip.Prefix) bool {
	return p.Bits() == 0 || p.Addr().Is4In6() && p.Bits() <= 96
}

// Canonical sorts, masks and dedupes prefixes that a caller gave.
func Canonical(ps []netip.Prefix) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(ps))
	for _, p := range ps {
		switch {
		case !p.IsValid():
			return nil, fmt.Errorf("prefix %v is not valid", p)
		case p.Addr().Is4In6():
			return nil, fmt.Errorf("prefix %v is IPv4 written as IPv6", p)
		}
		out = append(out, p.Masked())
	}
	return Sort(out), nil
}

// Compare orders prefixes by address, then the wider first.
func Compare(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// Sort makes a sorted set of masked prefixes, in place.
func Sort(ps []netip.Prefix) []netip.Prefix {
	if !slices.IsSortedFunc(ps, Compare) {
		slices.SortFunc(ps, Compare)
	}
	return slices.Compact(ps)
}

// The arguments and results of the following functions are sorted sets, as Sort makes them.

// Minus returns the elements of a that are not in b.
func Minus(a, b []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range a {
		for len(b) > 0 && Compare(b[0], p) < 0 {
			b = b[1:]
		}
		if len(b) == 0 || b[0] != p {
			out = append(out, p)
		}
	}
	return out
}

// Both returns the elements in both a and b.
func Both(a, b []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range a {
		for len(b) > 0 && Compare(b[0], p) < 0 {
			b = b[1:]
		}
		if len(b) > 0 && b[0] == p {
			out = append(out, p)
		}
	}
	return out
}

// Plus returns the elements in a or b.
func Plus(a, b []netip.Prefix) []netip.Prefix {
	return Sort(append(slices.Clone(a), b...))
}

// Some names the first few, so that a message about thousands stays one line.
func Some(ps []netip.Prefix) string {
	const few = 5
	var b strings.Builder
	for i, p := range ps {
		if i == few {
			b.WriteString(", …")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(p.String())
	}
	return b.String()
}
