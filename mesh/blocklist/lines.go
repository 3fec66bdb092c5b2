package blocklist

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"go4.org/netipx"

	"banmesh/mesh/control"
)

// text reads a list that is not JSON: CSV with a head, `ipset save`, or lines.
func (p *reader) text(data []byte) error {
	first, at := firstLine(data)
	switch {
	case isHead(first):
		return p.csv(data[at:], bytes.Count(data[:at], []byte("\n")))
	case isIPSet(first):
		return p.ipset(data)
	}
	return p.lines(data)
}

// firstLine returns the first line that is neither empty nor a comment, and its position.
func firstLine(data []byte) (line string, at int) {
	for at < len(data) {
		end := bytes.IndexByte(data[at:], '\n')
		if end < 0 {
			end = len(data) - at
		}
		// No more than a line may have is copied: a file without line breaks is one line.
		if s := strings.TrimSpace(string(data[at : at+min(end, maxLine)])); s != "" && s[0] != '#' && s[0] != ';' {
			return s, at
		}
		at = min(at+end+1, len(data))
	}
	return "", at
}

// lines reads one prefix or range per line.
func (p *reader) lines(data []byte) error {
	p.form("a prefix or range a line")
	for n := 1; len(data) > 0; n++ {
		line, rest, _ := bytes.Cut(data, []byte("\n"))
		data = rest
		if len(line) > maxLine {
			return &placed{fmt.Errorf("%s:%d: a line of more than %d bytes: not a list of prefixes", p.Name, n, maxLine)}
		}
		found, err := p.line(string(line))
		switch {
		case errors.Is(err, errPassive):
			p.list.Passive++
		case err != nil:
			if err := p.bad(strconv.Itoa(n), err); err != nil {
				return err
			}
		}
		for _, q := range found {
			if err := p.add(Entry{Prefix: q}); err != nil {
				return err
			}
		}
	}
	return nil
}

var (
	errPassive = errors.New("the list does not block this")
	errSecond  = errors.New("a second address on the line: no known form")
)

// line reads one line; none and no error is a line without an entry. The forms:
//
//	203.0.113.7 [words]         203.0.113.0/24 [words]       203.0.113.0/255.255.255.0
//	203.0.113.0 255.255.255.0   203.0.113.0-203.0.113.9      203.0.113.0 - 203.0.113.9 , 000 , words
//	203.0.113.0 TAB 203.0.113.255 TAB 24 TAB words (DShield, under a line Start TAB End TAB …)
func (p *reader) line(s string) ([]netip.Prefix, error) {
	// Cut first: a comment behind an entry may hold anything, also another address. Spamhaus' text lists begin
	// one with a semicolon.
	if i := strings.IndexAny(s, "#;"); i >= 0 {
		s = s[:i]
	}
	s = strings.TrimRightFunc(s, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	s = strings.TrimSpace(s)
	if s == "" {
		return nil, nil
	}
	word, rest := s, ""
	if i := strings.IndexAny(s, " \t,-"); i >= 0 {
		word, rest = s[:i], s[i:]
	}
	after := strings.TrimSpace(rest)
	if after == "" {
		return one(p.single(word))
	}
	_, notAnAddress := address(word)
	switch {
	// A dash inside a word, such as a name: the whole word goes to single, whose error shows it.
	case after[0] == '-' && notAnAddress != nil:
		return one(p.single(strings.Fields(s)[0]))
	case after[0] == '-':
		return p.ranged(word, strings.TrimLeft(after[1:], " \t"))
	case after[0] == ',':
		return nil, errors.New("columns after a comma, and no head that names them: no known form")
	}
	fields := strings.Fields(after)
	if word == "Start" && fields[0] == "End" {
		p.form("DShield's start, end and length")
		return nil, nil
	}
	// A second address is a mask or an end. To leave it out would ban one address of a range, and report
	// success.
	if second, err := netip.ParseAddr(fields[0]); err == nil {
		return one(p.pair(word, second, fields[1:]))
	}
	if err := noise(fields); err != nil {
		return nil, err
	}
	return one(p.single(word))
}

// one gives a single prefix the shape of a range's.
func one(q netip.Prefix, err error) ([]netip.Prefix, error) {
	if err != nil {
		return nil, err
	}
	return []netip.Prefix{q}, nil
}

// single parses an address, a prefix, or a network with its mask.
func (p *reader) single(s string) (netip.Prefix, error) {
	if slash := strings.IndexByte(s, '/'); slash >= 0 && strings.IndexByte(s[slash:], '.') >= 0 {
		mask, err := netip.ParseAddr(s[slash+1:])
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%s is not an IP address or prefix", control.Show(s))
		}
		return p.masked(s[:slash], mask)
	}
	q, err := p.prefix(s)
	if err != nil {
		return q, err
	}
	// A hosts file names 0.0.0.0 or 127.0.0.1 first on each line, and what is blocked as a name behind it.
	if a := q.Addr(); q.IsSingleIP() && (a.IsUnspecified() || a.IsLoopback()) {
		return q, fmt.Errorf("%s is nobody's address: is this a hosts file?", a)
	}
	return q, nil
}

// masked parses a network with a mask like 255.255.255.0.
func (p *reader) masked(network string, mask netip.Addr) (netip.Prefix, error) {
	bits, ok := length(mask)
	if !ok {
		return netip.Prefix{}, fmt.Errorf("%s is not a netmask", mask)
	}
	return p.prefix(network + "/" + strconv.Itoa(bits))
}

// length returns the number of leading ones in a netmask; ok is false if it has others.
func length(mask netip.Addr) (bits int, ok bool) {
	if !mask.Is4() {
		return 0, false
	}
	b := mask.As4()
	m := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	for m&(1<<31) != 0 {
		bits++
		m <<= 1
	}
	return bits, m == 0
}

// pair parses two addresses: a network and its mask, or DShield's start and end followed by the length of that range.
func (p *reader) pair(start string, second netip.Addr, rest []string) (netip.Prefix, error) {
	if len(rest) > 0 {
		bits, err := strconv.Atoi(rest[0])
		first, bad := netip.ParseAddr(start)
		if err != nil || bad != nil {
			return netip.Prefix{}, errSecond
		}
		if err := noise(rest[1:]); err != nil {
			return netip.Prefix{}, err
		}
		q, err := first.Prefix(bits)
		// The three columns must agree; if they do not, the line is of another form that only looks like this
		// one.
		if err != nil || netipx.RangeOfPrefix(q) != netipx.IPRangeFrom(first, second) {
			return netip.Prefix{}, fmt.Errorf("%s to %s is not of the length %d", first, second, bits)
		}
		return p.prefix(q.String())
	}
	// 0.0.0.0 would be a mask as well, that of the whole internet. What is no mask may be the end of a range or
	// belong to another column, so it is refused.
	if bits, ok := length(second); ok && bits > 0 {
		return p.masked(start, second)
	}
	return netip.Prefix{}, errSecond
}

// ranged parses a range from first to the address at the beginning of follows.
func (p *reader) ranged(first, follows string) ([]netip.Prefix, error) {
	second, rest := follows, ""
	if i := strings.IndexAny(follows, " \t,"); i >= 0 {
		second, rest = follows[:i], strings.TrimLeft(follows[i:], " \t")
	}
	from, err := address(first)
	if err != nil {
		return nil, err
	}
	to, err := address(second)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(rest, ",") { // eMule's: a level above 127 means not blocked
		columns := strings.Split(rest[1:], ",")
		if level, err := strconv.Atoi(strings.TrimSpace(columns[0])); err == nil && level > 127 {
			return nil, errPassive
		}
	} else if err := noise(strings.Fields(rest)); err != nil {
		return nil, err
	}
	r := netipx.IPRangeFrom(from, to)
	if !r.IsValid() {
		return nil, fmt.Errorf("%s-%s is not a range: its end is before its start, or of the other family", from, to)
	}
	found := r.Prefixes()
	for _, q := range found {
		// A list that means everybody is broken.
		if q.Bits() == 0 {
			return nil, fmt.Errorf("%s-%s is the whole internet", from, to)
		}
	}
	return found, nil
}

// address parses an end of a range; eMule pads IPv4 with zeros, as in 001.002.003.004.
func address(s string) (netip.Addr, error) {
	text := s
	// netip refuses leading zeros, because some programs take such a number for octal. They are removed only
	// from the full width of eMule's form.
	if parts := strings.Split(s, "."); len(parts) == 4 && len(s) == len("000.000.000.000") {
		for i, part := range parts {
			if len(part) == 3 {
				parts[i] = strings.TrimLeft(part[:2], "0") + part[2:]
			}
		}
		text = strings.Join(parts, ".")
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return a, fmt.Errorf("%s is not an IP address", control.Show(s))
	}
	return a.Unmap(), nil
}

// letThrough holds the words by which lists of other programs mark entries that must not be blocked.
var letThrough = map[string]bool{
	"ok": true, "allow": true, "allowed": true, "accept": true, "permit": true, "pass": true, "dunno": true, "good": true,
	"white": true, "whitelist": true, "whitelisted": true, "allowlist": true, "allowlisted": true, "exempt": true, "exclude": true,
	"trusted": true, "return": true,
}

// noise accepts words after an entry, such as a count or a comment, unless they may mean another format.
func noise(fields []string) error {
	for _, f := range fields {
		f = strings.Trim(f, `,()[]{}"'`)
		if f == "" {
			continue
		}
		if letThrough[strings.ToLower(f)] {
			return fmt.Errorf("%s after the address: does the line block it? no known form", control.Show(f))
		}
		// Only an address is suspicious: times and versions have these signs as well.
		if strings.ContainsAny(f, ".:") {
			if i := strings.IndexAny(f, "/-"); i > 0 {
				f = f[:i]
			}
			if _, err := netip.ParseAddr(f); err == nil {
				return errSecond
			}
		}
	}
	return nil
}
