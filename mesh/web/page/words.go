package page

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"banmesh/mesh/control"
)

// stamp is a time as it is shown. The text is in UTC; the script turns it into "12 s ago".
type stamp struct {
	Machine string // RFC 3339; empty for no time
	Text    string // short
	Full    string
	Never   bool // a ban without end
}

// stampAt gives the time for machines, in full, and short for a table: of the day if that is near, else the
// date. Zero is no time.
func stampAt(t, now time.Time) stamp {
	if t.IsZero() || t.Unix() == 0 {
		return stamp{}
	}
	t, now = t.UTC(), now.UTC()
	s := stamp{Machine: t.Format("2006-01-02T15:04:05.000Z"), Full: t.Format("2006-01-02 15:04:05 UTC"), Text: t.Format("15:04:05")}
	// A bare time of day would be ambiguous beyond half a day.
	if apart := t.Sub(now).Abs(); apart > 12*time.Hour {
		s.Text = t.Format("2 Jan 15:04")
		if apart > 300*24*time.Hour {
			s.Text = t.Format("2 Jan 2006")
		}
	}
	return s
}

func untilStamp(u control.Until, now time.Time) stamp {
	if u == control.Never {
		return stamp{Never: true, Text: "without end"}
	}
	return stampAt(u.Time(), now)
}

// number formats 12345 as 12,345.
func number[T int | int64 | uint64 | uint32](n T) string {
	digits := strconv.FormatInt(int64(n), 10)
	sign := ""
	if n < 0 {
		sign, digits = "−", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// counted formats a number with its noun.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// skew formats the difference of two clocks.
func skew(ms int64) string {
	sign := "+"
	if ms < 0 {
		sign, ms = "−", -ms
	}
	switch {
	case ms == 0:
		return "0 ms"
	case ms < 1000:
		return fmt.Sprintf("%s%d ms", sign, ms)
	case ms < 600_000:
		return fmt.Sprintf("%s%.1f s", sign, float64(ms)/1000)
	}
	return sign + long(time.Duration(ms)*time.Millisecond)
}

// long formats a duration by its two largest units.
func long(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}

// phrase is a part of a sentence; Code marks what to type literally.
type phrase struct {
	Text string
	Code bool
}

// phrases splits a sentence at its backquotes.
func phrases(sentence string) []phrase {
	var out []phrase
	pieces := strings.Split(sentence, "`")
	for i, text := range pieces {
		code := i%2 == 1
		if code && i == len(pieces)-1 {
			code, text = false, "`"+text // no closing backquote: show it as text
		}
		if text != "" {
			out = append(out, phrase{text, code})
		}
	}
	return out
}
