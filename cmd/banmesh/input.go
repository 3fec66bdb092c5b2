package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"banmesh/mesh/control"
)

const (
	maxLine  = 64 << 10  // bytes of a line in a list
	maxLines = 5_000_000 // prefixes of one list
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

func parsePrefix(s string, mask bool) (netip.Prefix, error) {
	p, err := control.ParsePrefix(s)
	var host *control.HostBitsError
	if mask && errors.As(err, &host) {
		return host.Masked, nil
	}
	return p, err
}

// gather returns the prefixes of the arguments and of the list in file, where one is named.
func (c *console) gather(args []string, file string, mask bool) (control.Prefixes, error) {
	ps, err := parsePrefixes(args, mask)
	if err != nil || file == "" {
		return ps, err
	}
	more, _, err := c.readList(file, mask, false)
	return append(ps, more...), err
}

// readList reads a list with one prefix a line; what follows the first word, and # and ; comments, are ignored. "-" is
// the standard input. One bad line refuses the whole list, with its number, unless skip is set: then bad tells of them.
func (c *console) readList(file string, mask, skip bool) (ps control.Prefixes, bad []error, err error) {
	in, name := c.in, "standard input"
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, nil, fmt.Errorf("read the list: %w", err)
		}
		defer f.Close()
		in, name = f, file
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, maxLine), maxLine)
	n := 0
	for lines.Scan() {
		n++
		word := firstWord(lines.Text())
		if word == "" {
			continue
		}
		p, err := parsePrefix(word, mask)
		if err != nil {
			err = fmt.Errorf("%s:%d: %w", name, n, err)
			if !skip {
				return nil, nil, usageError{err}
			}
			bad = append(bad, err)
			continue
		}
		if len(ps) == maxLines {
			return nil, nil, usagef("%s: more than %d prefixes", name, maxLines)
		}
		ps = append(ps, p)
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, nil, usagef("%s:%d: a line of more than %d bytes: not a list of prefixes", name, n+1, maxLine)
	case err != nil && !errors.Is(err, io.EOF):
		return nil, nil, fmt.Errorf("read %s: %w", name, err)
	}
	return ps, bad, nil
}

func firstWord(line string) string {
	if i := strings.IndexAny(line, "#;"); i >= 0 {
		line = line[:i]
	}
	line = strings.TrimPrefix(line, "\ufeff")
	line = strings.TrimLeft(line, " \t\r,")
	if i := strings.IndexAny(line, " \t\r,"); i >= 0 {
		line = line[:i]
	}
	return line
}

// shorten lists prefixes for a sentence, and no more than fit one.
func shorten(ps []netip.Prefix) string {
	const most = 5
	var s []string
	for i, p := range ps {
		if i == most {
			s = append(s, fmt.Sprintf("%d more", len(ps)-most))
			break
		}
		s = append(s, control.Format(p))
	}
	return strings.Join(s, ", ")
}
