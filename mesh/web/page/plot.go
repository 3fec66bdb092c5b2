package page

import (
	"fmt"
	"strings"
	"time"
)

// plotHeight is the height of a plot in its own units. A bar is one unit wide; the style sheet scales both.
const plotHeight = 100

// scale says how a plot divides its time.
type scale struct {
	name, span string // "the last hour", "per minute"
	mark       string // format of a bar's time
	ticks      int    // bars between two times below the plot
	rows       int    // bars per row of its table
}

var (
	// An hour in minutes and a day in hours, with a mark each quarter hour and each six hours.
	hourScale = scale{"the last hour", "per minute", "15:04", 15, 5}
	dayScale  = scale{"the last day", "per hour", "15:04", 6, 1}
)

// plot shows new bans as bars and, below, live bans as a line.
type plot struct {
	Title   string
	Span    string
	Width   int
	Height  int
	Bars    []bar
	Top     int // of the scale
	Half    string
	Total   int
	Line    []string // of the live bans: one polyline per stretch without a gap
	Area    []string
	LiveTop int
	Live    bool // there is a line
	Ticks   []string
	Partial bool // the plot reaches back to before the watch began
	Summary string
	Rows    []plotRow
}

type bar struct {
	X, Y, H string
	Title   string
}

type plotRow struct {
	Time string
	Bans int
	Live string
}

// drawPlot makes SVG coordinates and, for those who cannot see them, a summary and a table. A bar of few bans
// stays visible beside one of thousands.
func drawPlot(spans []span, sc scale, since time.Time) plot {
	p := plot{Title: sc.name, Span: sc.span, Width: len(spans), Height: plotHeight, Partial: spans[0].from.Before(since)}
	peak, top, live := -1, 0, 0
	for i, s := range spans {
		p.Total += s.bans
		if s.bans > top {
			peak, top = i, s.bans
		}
		live = max(live, s.live)
	}
	// At least 1 each, so that nothing is divided by 0 in a mesh without bans.
	p.Top, p.LiveTop = roundUp(top), roundUp(live)
	p.Half = half(p.Top)
	for i, s := range spans {
		h := plotHeight * float64(s.bans) / float64(p.Top)
		if s.bans > 0 {
			h = max(h, 1.5)
			p.Bars = append(p.Bars, bar{
				X: fmt.Sprintf("%.2f", float64(i)+0.1), Y: fmt.Sprintf("%.2f", plotHeight-h), H: fmt.Sprintf("%.2f", h),
				Title: s.from.Format(sc.mark) + ": " + counted(s.bans, "ban", "bans"),
			})
		}
		if i%sc.ticks == 0 {
			p.Ticks = append(p.Ticks, s.from.Format(sc.mark))
		}
	}
	p.stretch(spans)
	p.Summary = fmt.Sprintf("%s in %s", counted(p.Total, "new ban", "new bans"), sc.name)
	if peak >= 0 {
		p.Summary += fmt.Sprintf(", most of them %s: %s", spans[peak].from.Format(sc.mark), number(top))
	}
	for i := 0; i+sc.rows <= len(spans); i += sc.rows {
		row := plotRow{Time: spans[i].from.Format(sc.mark), Live: "–"}
		for _, s := range spans[i : i+sc.rows] {
			row.Bans += s.bans
			if s.sampled {
				row.Live = number(s.live)
			}
		}
		p.Rows = append(p.Rows, row)
	}
	return p
}

// stretch draws the line of live bans, with gaps where the number is unknown.
func (p *plot) stretch(spans []span) {
	var points []string
	var from, to float64
	end := func() {
		if len(points) > 0 {
			line := strings.Join(points, " ")
			p.Line = append(p.Line, line)
			p.Area = append(p.Area, fmt.Sprintf("%.1f,%d %s %.1f,%d", from, plotHeight, line, to, plotHeight))
		}
		points = nil
	}
	for i, s := range spans {
		if !s.sampled {
			end()
			continue
		}
		y := plotHeight - plotHeight*float64(s.live)/float64(p.LiveTop)
		if points == nil {
			from = float64(i)
			points = append(points, fmt.Sprintf("%.1f,%.2f", from, y))
		}
		to = float64(i + 1)
		points = append(points, fmt.Sprintf("%.1f,%.2f", to, y))
		p.Live = true
	}
	end()
}

// roundUp returns the smallest of 1, 2, 4, 5, 10, 20 … that is at least n.
func roundUp(n int) int {
	for unit := 1; ; unit *= 10 {
		for _, k := range []int{1, 2, 4, 5} {
			if n <= k*unit {
				return k * unit
			}
		}
	}
}

// half labels the middle of the scale, or nothing where half a ban would be.
func half(top int) string {
	if top%2 == 1 {
		return ""
	}
	return number(top / 2)
}
