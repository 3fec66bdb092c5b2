package restclient

import (
	"fmt"
	"net/netip"
	"slices"
)

// parseAddress reads an address leaf as tolerantly as the servers write it: host bits are masked off, a bare address
// is one of full length. exact tells whether the text is the canonical one.
func parseAddress(text string) (p netip.Prefix, exact, ok bool) {
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

// wideOpen tells whether a prefix covers every address of a family, IPv4 in IPv6's mapped spelling included.
func wideOpen(p netip.Prefix) bool {
	return p.Bits() == 0 || p.Addr().Is4In6() && p.Bits() <= 96
}

// refuseWideOpen names the first prefix that covers everything.
func refuseWideOpen(where string, ps []netip.Prefix) error {
	for _, p := range ps {
		if wideOpen(p) {
			return fmt.Errorf("%w: %s in %s", ErrWideOpen, p, where)
		}
	}
	return nil
}

// canonicalSet sorts, masks and dedupes prefixes that a caller gave.
func canonicalSet(ps []netip.Prefix) ([]netip.Prefix, error) {
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
	return sortSet(out), nil
}

func comparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

func sortSet(ps []netip.Prefix) []netip.Prefix {
	if !slices.IsSortedFunc(ps, comparePrefixes) {
		slices.SortFunc(ps, comparePrefixes)
	}
	return slices.Compact(ps)
}

// Both arguments of the following are sorted sets, and so are the results.

func minus(a, b []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range a {
		for len(b) > 0 && comparePrefixes(b[0], p) < 0 {
			b = b[1:]
		}
		if len(b) == 0 || b[0] != p {
			out = append(out, p)
		}
	}
	return out
}

func both(a, b []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range a {
		for len(b) > 0 && comparePrefixes(b[0], p) < 0 {
			b = b[1:]
		}
		if len(b) > 0 && b[0] == p {
			out = append(out, p)
		}
	}
	return out
}

func plus(a, b []netip.Prefix) []netip.Prefix {
	return sortSet(append(slices.Clone(a), b...))
}
