package control

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxDuration is the longest valid duration; anything longer is a mistake or means -1.
const maxDuration = 100 * 365 * 24 * time.Hour

// Forever is what ParseDuration returns for -1: without end.
const Forever time.Duration = -1

// ParseDuration parses a duration above zero, in Go's format with d and w added (1w2d, 90m) or as a number of seconds. As in
// fail2ban, -1 means without end; it returns Forever.
func ParseDuration(s string) (time.Duration, error) {
	if s == "-1" {
		return Forever, nil
	}
	bad := func(why string) error { return fmt.Errorf("duration %s: %s", Show(s), why) }
	if s == "" || len(s) > 40 {
		return 0, bad("want one like 90s, 10m, 2h, 1d, 1w, a number of seconds, or -1 for without end")
	}
	if s[0] == '-' {
		return 0, bad("negative; only -1 is allowed and means without end")
	}
	var total time.Duration
	for rest := s; rest != ""; {
		n := 0
		for n < len(rest) && (rest[n] >= '0' && rest[n] <= '9' || rest[n] == '.') {
			n++
		}
		u := n
		for u < len(rest) && (rest[u] < '0' || rest[u] > '9') && rest[u] != '.' {
			u++
		}
		unit, ok := units[rest[n:u]]
		if !ok || n == 0 || rest[n:u] == "" && (n != len(s) || strings.Contains(s, ".")) {
			return 0, bad("want one like 90s, 10m, 2h, 1d, 1w, a number of seconds, or -1 for without end")
		}
		f, err := strconv.ParseFloat(rest[:n], 64)
		if err != nil {
			return 0, bad("want one like 90s, 10m, 2h, 1d, 1w, a number of seconds, or -1 for without end")
		}
		if f *= float64(unit); f > float64(maxDuration) {
			return 0, bad("longer than 100 years; -1 means without end")
		}
		part := time.Duration(math.Round(f))
		if whole, err := strconv.ParseInt(rest[:n], 10, 64); err == nil {
			part = time.Duration(whole) * unit // exact, unlike the float
		}
		if total += part; total > maxDuration {
			return 0, bad("longer than 100 years; -1 means without end")
		}
		rest = rest[u:]
	}
	if total <= 0 {
		return 0, bad("nothing is left of it; want more than zero")
	}
	return total, nil
}

// units are Go's, and fail2ban's d and w; a number alone is seconds, as fail2ban has it.
var units = map[string]time.Duration{
	"": time.Second, "ns": time.Nanosecond, "us": time.Microsecond, "µs": time.Microsecond, "ms": time.Millisecond,
	"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
}
