package control

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"banmesh/internal/excerpt"
)

// maxShown bounds how much of the input an error message repeats.
const maxShown = 64

// Show quotes s for an error message: it escapes control characters and cuts long input.
func Show(s string) string {
	if len(s) <= maxShown {
		return strconv.QuoteToGraphic(s)
	}
	cut := maxShown
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s... (%d bytes)", strconv.QuoteToGraphic(s[:cut]), len(s))
}

// maxLine bounds a line of foreign text, in bytes.
const maxLine = 2000

// OneLine puts foreign text on one line and cuts it, so that it neither fills nor controls a terminal or a log.
func OneLine(s string) string { return excerpt.Line(s, maxLine) }

// HostBitsError says that a prefix names an address inside a network instead of the network.
type HostBitsError struct{ given, Masked netip.Prefix }

func (e *HostBitsError) Error() string {
	return fmt.Sprintf("%s has host bits set: use %s, or pass --force to clear them", e.given, e.Masked)
}

// Bare returns a prefix's text, without the length for a single address.
func Bare(prefix string) string {
	single := "/32"
	if strings.IndexByte(prefix, ':') >= 0 {
		single = "/128"
	}
	return strings.TrimSuffix(prefix, single)
}

// ParsePrefix parses an address (which means /32 or /128) or a prefix. An IPv4-mapped address (::ffff:a.b.c.d) is the IPv4
// address. It refuses zones, host names, length 0 and, with a *HostBitsError, set host bits.
func ParsePrefix(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, errors.New("empty address: want an IP address or prefix like 203.0.113.7 or 2001:db8::/64")
	}
	// Longer than any prefix; netip would otherwise repeat it in its error.
	if len(s) > maxShown {
		return netip.Prefix{}, fmt.Errorf("%s is not an IP address or prefix", Show(s))
	}
	if strings.IndexByte(s, '%') >= 0 {
		return netip.Prefix{}, fmt.Errorf("%s has a zone: only addresses that mean the same on every router can be shared", Show(s))
	}
	slash := strings.LastIndexByte(s, '/')
	if slash < 0 {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, notAPrefix(s)
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	a, err := netip.ParseAddr(s[:slash])
	if err != nil {
		return netip.Prefix{}, notAPrefix(s)
	}
	// No leading zero: tools differ in whether /010 is ten or eight.
	bits, err := strconv.ParseUint(s[slash+1:], 10, 8)
	if err != nil || (len(s)-slash > 2 && s[slash+1] == '0') || int(bits) > a.BitLen() {
		return netip.Prefix{}, fmt.Errorf("%s: the length after / must be 1 to %d", Show(s), a.BitLen())
	}
	p := netip.PrefixFrom(a, int(bits))
	if a.Is4In6() {
		if bits < 96 {
			return netip.Prefix{}, fmt.Errorf("%s mixes IPv4 and IPv6: say it as one of them", Show(s))
		}
		p = netip.PrefixFrom(a.Unmap(), int(bits)-96)
	}
	if p.Bits() == 0 {
		return netip.Prefix{}, fmt.Errorf("%s is the whole internet: length 0 is never accepted", Show(s))
	}
	if m := p.Masked(); m != p {
		return netip.Prefix{}, &HostBitsError{given: p, Masked: m}
	}
	return p, nil
}

// notAPrefix adds that names are not looked up if a letter shows that one was meant.
func notAPrefix(s string) error {
	for i := range len(s) {
		c := s[i] | 0x20
		if c > 'f' && c <= 'z' {
			return fmt.Errorf("%s is not an IP address or prefix (host names are not looked up)", Show(s))
		}
	}
	return fmt.Errorf("%s is not an IP address or prefix", Show(s))
}

// Format formats a prefix for an operator: a single address has no length.
func Format(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// Wide reports whether a ban of p needs --force: wider than /16 (IPv4) or /32 (IPv6).
// Most wider ones are a slip of the keyboard, and each would cost many bystanders.
func Wide(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < 16
	}
	return p.Bits() < 32
}

// Prefixes is a list of prefixes. In JSON it is an array of strings; a bare address means /32 or /128, and what ParsePrefix
// refuses is an error. Parsing avoids reflection: bulk calls carry a hundred thousand.
type Prefixes []netip.Prefix

// MarshalJSON writes an array, never null.
func (ps Prefixes) MarshalJSON() ([]byte, error) {
	return ps.appendJSON(make([]byte, 0, 2+22*len(ps))), nil
}

func (ps Prefixes) appendJSON(b []byte) []byte {
	b = append(b, '[')
	for i, p := range ps {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = p.AppendTo(b)
		b = append(b, '"')
	}
	return append(b, ']')
}

// UnmarshalJSON reads an array of strings. encoding/json promises that b is one valid JSON value.
func (ps *Prefixes) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*ps = nil
		return nil
	}
	if len(b) < 2 || b[0] != '[' {
		return errors.New("prefixes: want an array of strings")
	}
	rest := string(b[1 : len(b)-1]) // at once: each prefix would be an allocation
	out := (*ps)[:0]
	if cap(out) == 0 && len(rest) > 0 {
		out = make([]netip.Prefix, 0, 1+strings.Count(rest, ","))
	}
	for {
		i := 0
		for i < len(rest) && (rest[i] == ' ' || rest[i] == ',' || rest[i] == '\n' || rest[i] == '\t' || rest[i] == '\r') {
			i++
		}
		if rest = rest[i:]; len(rest) == 0 {
			break
		}
		if rest[0] != '"' {
			return errors.New("prefixes: want an array of strings")
		}
		end := strings.IndexByte(rest[1:min(len(rest), 2+maxShown)], '"')
		if end < 0 {
			return fmt.Errorf("prefix %d: %s is not an IP address or prefix", len(out)+1, Show(rest[1:min(len(rest), 2*maxShown)]))
		}
		p, err := ParsePrefix(rest[1 : 1+end])
		if err != nil {
			return fmt.Errorf("prefix %d: %w", len(out)+1, err)
		}
		out = append(out, p)
		rest = rest[end+2:]
	}
	*ps = out
	return nil
}
