package control

import (
	"fmt"
	"math"
	"time"
)

// layout is RFC 3339 with milliseconds; all times are UTC.
const layout = "2006-01-02T15:04:05.000Z"

// lastMillis is the last millisecond that RFC 3339 can write: the end of the year 9999.
const lastMillis = 253402300799999

// Time is a moment in Unix milliseconds, UTC. In JSON it is RFC 3339 with milliseconds; zero is null.
type Time int64

// Until is an end in Unix milliseconds, UTC. In JSON it is RFC 3339 with milliseconds; Never is null. Zero is no time: the
// call should have an end but names none.
type Until int64

// Never is the Until of something without end.
const Never Until = math.MaxInt64

// At returns t as a Time, cut to milliseconds.
func At(t time.Time) Time {
	if t.IsZero() {
		return 0
	}
	return Time(t.UnixMilli())
}

// UntilAt returns t as an Until, cut to milliseconds.
func UntilAt(t time.Time) Until { return Until(t.UnixMilli()) }

// Time returns the moment in UTC; the zero Time is the zero time.Time.
func (t Time) Time() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(t)).UTC()
}

// String returns RFC 3339 with milliseconds, or "" for zero.
func (t Time) String() string {
	if t == 0 {
		return ""
	}
	return string(appendMillis(nil, int64(t)))
}

// MarshalJSON writes RFC 3339, or null for zero.
func (t Time) MarshalJSON() ([]byte, error) {
	if t == 0 {
		return []byte("null"), nil
	}
	return quoteMillis(int64(t)), nil
}

// UnmarshalJSON reads RFC 3339 or null.
func (t *Time) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*t = 0
		return nil
	}
	ms, err := parseMillis(b)
	*t = Time(ms)
	return err
}

// Time returns the moment in UTC; Never is the last moment that can be written.
func (u Until) Time() time.Time { return time.UnixMilli(min(int64(u), lastMillis)).UTC() }

// String returns RFC 3339 with milliseconds, or "without end".
func (u Until) String() string {
	if u == Never {
		return "without end"
	}
	return string(appendMillis(nil, int64(u)))
}

// MarshalJSON writes RFC 3339, or null for Never.
func (u Until) MarshalJSON() ([]byte, error) {
	if u == Never {
		return []byte("null"), nil
	}
	return quoteMillis(int64(u)), nil
}

// UnmarshalJSON reads RFC 3339 or null.
func (u *Until) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*u = Never
		return nil
	}
	ms, err := parseMillis(b)
	*u = Until(ms)
	return err
}

func quoteMillis(ms int64) []byte {
	b := make([]byte, 0, len(layout)+2)
	b = append(b, '"')
	b = appendMillis(b, ms)
	return append(b, '"')
}

func appendMillis(b []byte, ms int64) []byte {
	// Years beyond 9999 have no RFC 3339 form, and a reader must not fail on one.
	ms = max(0, min(ms, lastMillis))
	// Same as AppendFormat(b, layout), but faster: a long list has three times per line.
	t := time.UnixMilli(ms).UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = append(b, layout...)
	to := b[len(b)-len(layout):]
	digits(to[0:4], year)
	digits(to[5:7], int(month))
	digits(to[8:10], day)
	digits(to[11:13], hour)
	digits(to[14:16], minute)
	digits(to[17:19], second)
	digits(to[20:23], int(ms%1000))
	return b
}

// digits fills to with the last digits of n.
func digits(to []byte, n int) {
	for i := len(to) - 1; i >= 0; i-- {
		to[i] = byte('0' + n%10)
		n /= 10
	}
}

// ParseTime parses RFC 3339.
func ParseTime(s string) (Time, error) {
	ms, err := parseMillis([]byte(`"` + s + `"`))
	return Time(ms), err
}

// parseMillis takes any RFC 3339 time, also with an offset, but none before 1970: 0 means no time here.
func parseMillis(b []byte) (int64, error) {
	if len(b) < 2 || b[0] != '"' || b[len(b)-1] != '"' {
		return 0, fmt.Errorf("time %s: want RFC 3339 in quotes, like \"2026-01-02T15:04:05.000Z\"", Show(string(b)))
	}
	t, err := time.Parse(time.RFC3339Nano, string(b[1:len(b)-1]))
	if err != nil {
		return 0, fmt.Errorf("time %s: want RFC 3339, like \"2026-01-02T15:04:05.000Z\"", Show(string(b)))
	}
	ms := t.UnixMilli()
	if ms <= 0 || ms > lastMillis {
		return 0, fmt.Errorf("time %s: want a time between 1970 and 9999", Show(string(b)))
	}
	return ms, nil
}
