package demo

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
)

// screen prints the demo, in colour on a terminal.
type screen struct {
	out    io.Writer
	colour bool
	titles int
}

func newScreen(out io.Writer, colour bool) *screen { return &screen{out: out, colour: colour} }

const (
	bold  = "1"
	green = "32"
	dim   = "2"
)

func (s *screen) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s *screen) title(text string) {
	s.titles++
	fmt.Fprintf(s.out, "\n%s\n", s.paint(bold, fmt.Sprintf("%d  %s", s.titles, text)))
}

func (s *screen) line(format string, args ...any) {
	fmt.Fprintf(s.out, "   "+format+"\n", args...)
}

// head and row print a table: when, by whom, which address, and at each router
// how many milliseconds later. The columns are as wide as what the demo puts into
// them, so that a row fits a terminal of 80.
func (s *screen) head(by, what string, routers []*router) {
	s.line("%s", s.paint(dim, fmt.Sprintf("%7s  %-9s  %-17s", "", by, what)+columns(routers, func(r *router) string { return r.name })))
}

func (s *screen) row(when time.Duration, by string, prefix netip.Prefix, routers []*router, took map[string]time.Duration) {
	cell := func(r *router) string {
		switch d, ok := took[r.name]; {
		case !ok:
			return "stopped"
		case r.name == by:
			return "disk " + millis(d)
		default:
			return "+" + millis(d)
		}
	}
	s.line("%6.2fs  %-9s  %-17s%s", when.Seconds(), by, prefix.Addr(), s.paint(green, columns(routers, cell)))
}

func columns(routers []*router, cell func(*router) string) string {
	var b strings.Builder
	for _, r := range routers {
		fmt.Fprintf(&b, " %12s", cell(r))
	}
	return b.String()
}

// device prints what a device's own command line shows.
func (s *screen) device(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		s.line("%s", s.paint(dim, strings.TrimRight(line, "\n")))
	}
}

func millis(d time.Duration) string {
	decimals := 1
	if d >= 100*time.Millisecond { // on a busy machine; it would not fit its column
		decimals = 0
	}
	return fmt.Sprintf("%.*f ms", decimals, d.Seconds()*1000)
}
