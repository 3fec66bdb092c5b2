// Package blocklist reads the lists of addresses that people bring: published blocklists in the forms in which they are
// published, and what other programs and banmesh itself export.
//
// A list is first told by its form, from its first lines; from then on every entry must be of that form. A list of an
// unknown form is refused whole, as is a line that could mean something else than it seems to: to leave out the second
// column of "start end" bans two addresses of five hundred and reports success.
package blocklist

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"banmesh/mesh/control"
)

const (
	maxSize    = 256 << 20 // bytes of a list, unpacked
	maxEntries = 5_000_000
	maxLine    = 64 << 10 // bytes of a line
)

// Entry is one prefix of a list. What the list does not say of it is zero.
type Entry struct {
	Prefix   netip.Prefix
	Jail     string
	Reason   string
	Failures uint32
	Start    control.Time
	Until    control.Until
}

// List is what a list holds.
type List struct {
	Form    string  // what it was read as, for people
	Entries []Entry // in the order of the list
	// Bad are the entries that cannot be used, each with its place. Only Options.Skip leaves them out.
	Bad []error
	// Passive counts the entries that the list itself does not want blocked: expired, simulated, allowed.
	Passive int
}

// Options say how to read.
type Options struct {
	Name string    // of the list, for errors
	Mask bool      // clear host bits instead of refusing them
	Skip bool      // collect entries that cannot be used in List.Bad instead of failing at the first
	Now  time.Time // from which the durations in a list count
}

// Read reads a list of any known form, gzipped or not. Its errors name the list and, where there is one, the line.
func Read(r io.Reader, o Options) (*List, error) {
	data, err := load(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Name, err)
	}
	p := &reader{Options: o, list: &List{}}
	switch first := bytes.TrimLeft(data, " \t\r\n"); {
	case len(first) == 0:
		p.list.Form = "an empty list"
	case first[0] == '[':
		err = p.array(first)
	case first[0] == '{':
		err = p.object(first)
	case first[0] == '<':
		err = errors.New("this is HTML or XML, not a list")
	default:
		err = p.text(data)
	}
	if err != nil {
		return nil, located(o.Name, err)
	}
	return p.list, nil
}

// Lines reads a list that is one prefix or range a line, and of no other form.
func Lines(r io.Reader, o Options) (*List, error) {
	data, err := load(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Name, err)
	}
	p := &reader{Options: o, list: &List{}}
	if err := p.lines(data); err != nil {
		return nil, located(o.Name, err)
	}
	return p.list, nil
}

// located puts the list's name in front of an error that has no place of its own.
func located(name string, err error) error {
	var at *placed
	if errors.As(err, &at) {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// placed is an error that says where in the list it is.
type placed struct{ error }

func (p *placed) Unwrap() error { return p.error }

// load reads everything, unpacks it, and refuses what is no text.
func load(r io.Reader) ([]byte, error) {
	data, err := readAll(r)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("unpack it: %w", err)
		}
		if data, err = readAll(z); err != nil {
			return nil, fmt.Errorf("unpack it: %w", err)
		}
	}
	for magic, what := range map[string]string{"\xfd7zXZ": "xz", "BZh": "bzip2", "PK\x03\x04": "zip", "\x28\xb5\x2f\xfd": "zstd"} {
		if bytes.HasPrefix(data, []byte(magic)) {
			return nil, fmt.Errorf("it is packed with %s: unpack it first (gzip is unpacked here)", what)
		}
	}
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		return nil, errors.New("it is UTF-16: convert it to UTF-8")
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if bytes.IndexByte(data, 0) >= 0 {
		return nil, errors.New("it is binary, not a list")
	}
	return data, nil
}

func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSize {
		return nil, fmt.Errorf("more than %d MiB: not a list of prefixes", maxSize>>20)
	}
	return data, nil
}

// reader is a list while it is read.
type reader struct {
	Options
	list *List
}

func (p *reader) form(name string) { p.list.Form = name }

// bad notes an entry that cannot be used; without Skip it is the end. where is empty, or the number of a line or entry.
func (p *reader) bad(where string, err error) error {
	name := p.Name
	if where != "" {
		name += ":" + where
	}
	err = &placed{fmt.Errorf("%s: %w", name, err)}
	if !p.Skip {
		return err
	}
	p.list.Bad = append(p.list.Bad, err)
	return nil
}

var errTooMany = fmt.Errorf("more than %d prefixes", maxEntries)

func (p *reader) add(entries ...Entry) error {
	if len(p.list.Entries)+len(entries) > maxEntries {
		return errTooMany
	}
	p.list.Entries = append(p.list.Entries, entries...)
	return nil
}

// prefix reads a prefix as the command line does.
func (p *reader) prefix(s string) (netip.Prefix, error) {
	q, err := control.ParsePrefix(s)
	var host *control.HostBitsError
	if p.Mask && errors.As(err, &host) {
		return host.Masked, nil
	}
	return q, err
}

// after is the end of something that lasts for d from now on; ok is false where that is over.
func (p *reader) after(d time.Duration) (until control.Until, ok bool) {
	return control.UntilAt(p.Now.Add(d)), d > 0
}

// clean makes a reason of what a list says: one line, no longer than a reason may be.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(strings.TrimSpace(s), "?"))
	if len(s) > control.MaxReason {
		n := control.MaxReason
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return s
}
