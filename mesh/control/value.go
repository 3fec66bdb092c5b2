package control

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// ParseSeconds parses Unix seconds, with an optional fraction; "" is the zero time.
func ParseSeconds(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	// This comparison excludes NaN as well.
	if err != nil || !(f >= 0 && f <= lastMillis/1000) {
		return time.Time{}, fmt.Errorf("%s is not a time in Unix seconds, like %d", Show(s), 1767225600)
	}
	whole, fraction := math.Modf(f)
	return time.Unix(int64(whole), int64(math.Round(fraction*1000))*int64(time.Millisecond)).UTC(), nil
}

// ParseFailures parses a number from 0 to maxFailures; "" is 0.
func ParseFailures(s string) (uint32, error) {
	if s == "" {
		return 0, nil
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil || v > maxFailures {
		return 0, fmt.Errorf("%s is not a number from 0 to %d", Show(s), maxFailures)
	}
	return uint32(v), nil
}

// ParseBinary parses fail2ban's 0 or 1; "" is 0.
func ParseBinary(s string) (bool, error) {
	if s != "" && s != "0" && s != "1" {
		return false, fmt.Errorf("%s is neither 0 nor 1", Show(s))
	}
	return s == "1", nil
}

// ParseBanTime parses fail2ban's <bantime>: seconds, possibly with a fraction from a formula, or -1 for Forever. A time that
// increments have raised above maxDuration is Forever too: refusing that ban would let in the worst offender. "" is 0.
func ParseBanTime(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil && !math.IsInf(f, 1) || math.IsNaN(f):
		return 0, fmt.Errorf("%s is not a number of seconds", Show(s))
	// Unless bantime.maxtime is set, fail2ban multiplies ban times without a bound.
	case f == -1 || f > maxDuration.Seconds():
		return Forever, nil
	case f < 0:
		return 0, fmt.Errorf("%s is negative; only -1 is allowed and means without end", Show(s))
	}
	return time.Duration(f * float64(time.Second)), nil
}
