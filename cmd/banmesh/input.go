package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"

	"banmesh/internal/excerpt"
	"banmesh/mesh/blocklist"
	"banmesh/mesh/control"
)

// parsePrefixes reads what was given on the command line; mask accepts host bits by clearing them.
func parsePrefixes(args []string, mask bool) (control.Prefixes, error) {
	out := make(control.Prefixes, 0, len(args))
	for _, arg := range args {
		p, err := parsePrefix(arg, mask)
		if err != nil {
			return nil, usageError{err}
		}
		out = append(out, p)
	}
	return out, nil
}

// parsePrefix refuses host bits unless asked to clear them: 10.0.0.1/8 is more likely a typing error than a
// wish to ban 10.0.0.0/8.
func parsePrefix(s string, mask bool) (netip.Prefix, error) {
	p, err := control.ParsePrefix(s)
	var host *control.HostBitsError
	if mask && errors.As(err, &host) {
		return host.Masked, nil
	}
	return p, err
}

// gather returns the prefixes of the arguments and of the list in file, where one is named. The list has one
// prefix or range a line and no other form: formats of publishers, some of which say what must not be banned,
// are for import.
func (c *console) gather(args []string, file string, mask bool) (control.Prefixes, error) {
	ps, err := parsePrefixes(args, mask)
	if err != nil || file == "" {
		return ps, err
	}
	l, err := c.readList(file, blocklist.Lines, blocklist.Options{Mask: mask})
	if err != nil {
		return nil, err
	}
	for _, e := range l.Entries {
		ps = append(ps, e.Prefix)
	}
	return ps, nil
}

// readList reads a list with one of the readers of package blocklist; "-" is the standard input.
func (c *console) readList(file string, read func(io.Reader, blocklist.Options) (*blocklist.List, error), o blocklist.Options) (*blocklist.List, error) {
	in := c.in
	o.Name, o.Now = "standard input", c.now()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read the list: %w", err)
		}
		defer f.Close()
		in, o.Name = f, file
	}
	l, err := read(in, o)
	var io *fs.PathError
	// What cannot be read may be readable later (exit 1). What is no list never will be one (exit 2).
	if err != nil && !errors.As(err, &io) {
		return nil, usageError{err}
	}
	return l, err
}

// shorten lists prefixes for a sentence, and no more than fit one.
func shorten(ps []netip.Prefix) string {
	names := make([]string, len(ps))
	for i, p := range ps {
		names[i] = control.Format(p)
	}
	return excerpt.Names(names)
}
