package store

import (
	"math"
	"time"
)

// Millis is a moment in Unix milliseconds, UTC. It is the only form of time in records and on the wire.
type Millis int64

// Never is the until of a record without end.
const Never Millis = math.MaxInt64

// latest is the end of the year 2200: a later moment, other than Never, is a mistake.
const latest Millis = 7289654399999

const (
	second = Millis(1000)
	minute = 60 * second
	hour   = 60 * minute
)

const (
	leaveAfter  = hour     // how long after its retention a record still counts in the root
	forgetAfter = 2 * hour // how long after its retention a record is deleted
)

// At returns t in Unix milliseconds.
func At(t time.Time) Millis { return Millis(t.UnixMilli()) }

// Time returns m as a time in UTC. Never has no time: the zero time stands for it.
func (m Millis) Time() time.Time {
	if m == Never {
		return time.Time{}
	}
	return time.UnixMilli(int64(m)).UTC()
}

// Minute returns the minute of t that Root and Digest take: whole minutes since 1970, UTC.
func Minute(t time.Time) int64 { return floorDiv(t.UnixMilli(), int64(minute)) }

// floorDiv rounds towards minus infinity, unlike Go's division: minutes before 1970 must not share
// a bucket with those after it.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

// plus adds d and stops at Never instead of overflowing.
func (m Millis) plus(d Millis) Millis {
	if m == Never || d == Never || m > Never-d {
		return Never
	}
	return m + d
}

// sane reports whether m may stand in a record as a start.
func (m Millis) sane() bool { return m >= 0 && m <= latest }

// saneUntil reports whether m may stand in a record as an until.
func (m Millis) saneUntil() bool { return m == Never || m.sane() }
