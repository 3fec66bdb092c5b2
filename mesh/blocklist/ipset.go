package blocklist

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go4.org/netipx"

	"banmesh/internal/ipranges"
	"banmesh/mesh/control"
)

func isIPSet(line string) bool {
	return strings.HasPrefix(line, "create ") || strings.HasPrefix(line, "add ")
}

// ipset reads the output of `ipset save NAME`. Entries marked nomatch are holes in the others.
func (p *reader) ipset(data []byte) error {
	p.form("ipset save")
	set := ""
	var holes netipx.IPSetBuilder
	cut := false
	for n := 1; len(data) > 0; n++ {
		line, rest, _ := bytes.Cut(data, []byte("\n"))
		data = rest
		words := strings.Fields(string(line))
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		if len(words) < 3 || words[0] != "create" && words[0] != "add" {
			return &placed{fmt.Errorf("%s:%d: %s is not a line of ipset save", p.Name, n, control.Show(string(line)))}
		}
		if set == "" {
			set = words[1]
		}
		// It is unclear which of several sets is meant, and one of them may be an allow-list.
		if words[1] != set {
			return &placed{fmt.Errorf("%s:%d: holds more than one set, %s and %s: save the one that is meant with ipset save NAME", p.Name, n, control.Show(set), control.Show(words[1]))}
		}
		// The set's type need not be known: member refuses entries that are more than addresses.
		if words[0] == "create" {
			continue
		}
		e, hole, err := p.member(words[2], string(line))
		switch {
		case err != nil && hole: // without it, what is banned would be more than the set holds
			return &placed{fmt.Errorf("%s:%d: %w", p.Name, n, err)}
		case err != nil:
			if err := p.bad(strconv.Itoa(n), err); err != nil {
				return err
			}
			continue
		}
		for _, q := range e {
			if hole {
				holes.AddPrefix(q.Prefix)
				cut = true
			} else if err := p.add(q); err != nil {
				return err
			}
		}
	}
	// Holes are applied at the end, since an entry may stand after the hole in it.
	if !cut {
		return nil
	}
	return p.cut(&holes)
}

// member parses an entry of a set with its options.
func (p *reader) member(text, line string) (entries []Entry, hole bool, err error) {
	_, options, _ := strings.Cut(line, text)
	var e Entry
	// The comment comes first off the line: it may hold words that look like options.
	options, comment, _ := strings.Cut(options, " comment ")
	e.Reason = clean(strings.Trim(strings.TrimSpace(comment), `"`))
	words := strings.Fields(options)
	hole = slices.Contains(words, "nomatch")
	if i := slices.Index(words, "timeout"); i >= 0 {
		if i++; i == len(words) {
			return nil, hole, errors.New("timeout without a number")
		}
		s, err := strconv.ParseUint(words[i], 10, 31)
		if err != nil {
			return nil, hole, fmt.Errorf("timeout %s is not a number of seconds", control.Show(words[i]))
		}
		// The kernel counts down: this was left when the set was saved. The file does not say when that was, so
		// the rest is counted from now.
		if s > 0 { // 0 means without end
			e.Until, _ = p.after(time.Duration(s) * time.Second)
		}
	}
	// An entry such as 192.0.2.1,tcp:80 blocks a service, and a ban would block the host.
	if strings.IndexByte(text, ',') >= 0 {
		return nil, hole, fmt.Errorf("%s is more than an address: only sets of addresses or networks can be banned", control.Show(text))
	}
	var found []netip.Prefix
	if first, second, isRange := strings.Cut(text, "-"); isRange {
		found, err = p.ranged(first, second)
	} else {
		found, err = one(p.single(text))
	}
	for _, q := range found {
		e.Prefix = q
		entries = append(entries, e)
	}
	return entries, hole, err
}

// cut removes the holes from every entry.
func (p *reader) cut(b *netipx.IPSetBuilder) error {
	set, err := b.IPSet()
	if err != nil {
		return err
	}
	holes := ipranges.Of(set)
	whole := p.list.Entries
	p.list.Entries = make([]Entry, 0, len(whole))
	for _, e := range whole {
		for _, q := range holes.Outside(e.Prefix) {
			e.Prefix = q
			// Counted anew, since a hole splits one entry into many.
			if err := p.add(e); err != nil {
				return err
			}
		}
	}
	return nil
}
