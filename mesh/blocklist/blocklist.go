// Package blocklist reads lists of addresses: published blocklists in their published formats, and exports of other programs
// and of banmesh itself.
//
// Read takes a stream and returns a List. It loads and unpacks the whole stream, then recognises the format by the first
// lines; every entry must be of that format. JSON lists are scanned without encoding/json where possible, which is several
// times as fast.
//
// It refuses the whole list if the format is unknown or a line is ambiguous. Ignoring the second column of "start end", for
// example, would ban two addresses of five hundred and report success.
//
// There are no goroutines and no shared state.
package blocklist

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"banmesh/mesh/control"
)

const (
	// Checked on the unpacked bytes as well: a gzip of a few kilobytes can hold gigabytes.
	maxSize    = 256 << 20 // bytes of an unpacked list
	maxEntries = 5_000_000
	maxLine    = 64 << 10 // bytes of a line
)

// Entry is one prefix of a list. What the list does not tell is zero.
type Entry struct {
	Prefix   netip.Prefix
	Jail     string
	Reason   string
	Failures uint32
	Start    control.Time
	Until    control.Until
}

// List is the content of a list.
type List struct {
	Form    string  // the format, for people
	Entries []Entry // in the order of the list
	// Bad holds why each unusable entry was left out, and where it is. Only Options.Skip leaves entries out.
	Bad []error
	// Passive counts the entries that the list itself does not want blocked: expired, simulated, allowed.
	Passive int
}

// Options say how to read a list.
type Options struct {
	Name string    // of the list, for errors
	Mask bool      // clear host bits instead of refusing them
	Skip bool      // collect errors about unusable entries in List.Bad instead of failing at the first
	Now  time.Time // start of the durations in a list
}

// Read reads a list of any known format, gzipped or not. Its errors name the list and, if possible, the line.
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
	// An error page or a portal that wants a login, which came in place of the list.
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

// Lines reads a list with one prefix or range per line, in no other format.
// It is for --file of ban and unban, where a list of another form is a mistake.
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

// located adds the list's name to an error without a position.
func located(name string, err error) error {
	var at *placed
	if errors.As(err, &at) {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// placed is an error that names its position in the list.
type placed struct{ error }

func (p *placed) Unwrap() error { return p.error }

// load reads and unpacks all of a list, and refuses anything but text.
func load(r io.Reader) ([]byte, error) {
	data, err := readAll(r)
	if err != nil {
		return nil, err
	}
	// The magic number of gzip, RFC 1952 section 2.3.1; names of files say too little, and a pipe has none.
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("unpack it: %w", err)
		}
		if data, err = readAll(z); err != nil {
			return nil, fmt.Errorf("unpack it: %w", err)
		}
	}
	// Recognised only to say what to do: otherwise they would be refused as binary or as bad lines.
	for magic, what := range map[string]string{"\xfd7zXZ": "xz", "BZh": "bzip2", "PK\x03\x04": "zip", "\x28\xb5\x2f\xfd": "zstd"} {
		if bytes.HasPrefix(data, []byte(magic)) {
			return nil, fmt.Errorf("it is packed with %s: unpack it first (gzip is unpacked here)", what)
		}
	}
	// The byte order marks of UTF-16. They are looked for before zero bytes, which half of such a text are.
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		return nil, errors.New("it is UTF-16: convert it to UTF-8")
	}
	// A byte order mark, which editors on Windows write before UTF-8.
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	// No text has one, and every executable or database does.
	if bytes.IndexByte(data, 0) >= 0 {
		return nil, errors.New("it is binary, not a list")
	}
	return data, nil
}

// readAll takes the size of a file into account: a buffer that doubles would need twice the memory.
func readAll(r io.Reader) ([]byte, error) {
	var data bytes.Buffer
	if f, ok := r.(fs.File); ok {
		if info, err := f.Stat(); err == nil && info.Size() < maxSize {
			data.Grow(int(info.Size()) + bytes.MinRead)
		}
	}
	if _, err := data.ReadFrom(io.LimitReader(r, maxSize+1)); err != nil {
		return nil, err
	}
	// One byte more than allowed has been read, if there was one.
	if data.Len() > maxSize {
		return nil, fmt.Errorf("more than %d MiB: not a list of prefixes", maxSize>>20)
	}
	return data.Bytes(), nil
}

// reader is the state of reading a list.
type reader struct {
	Options
	list *List
}

func (p *reader) form(name string) { p.list.Form = name }

// bad records an unusable entry; without Skip it returns the error. where is empty or the number of a line or entry.
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

// The list is refused as a whole, because a part of it would look like all of it.
var errTooMany = fmt.Errorf("more than %d prefixes", maxEntries)

// add refuses at maxEntries: a range can stand for many prefixes, so the number of lines bounds nothing.
func (p *reader) add(entries ...Entry) error {
	if len(p.list.Entries)+len(entries) > maxEntries {
		return errTooMany
	}
	p.list.Entries = append(p.list.Entries, entries...)
	return nil
}

// prefix parses a prefix as the command line does.
func (p *reader) prefix(s string) (netip.Prefix, error) {
	q, err := control.ParsePrefix(s)
	var host *control.HostBitsError
	if p.Mask && errors.As(err, &host) {
		return host.Masked, nil
	}
	return q, err
}

// after returns the end of something that lasts for d from now; ok is false if it is over.
func (p *reader) after(d time.Duration) (until control.Until, ok bool) {
	return control.UntilAt(p.Now.Add(d)), d > 0
}

// clean turns a text of the list into a reason: one line of at most the allowed length.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(strings.TrimSpace(s), "?"))
	if len(s) > control.MaxReason {
		n := control.MaxReason
		// Never within a rune: half of one is no UTF-8, and would be refused.
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return s
}
