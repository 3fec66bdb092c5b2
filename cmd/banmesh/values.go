package main

import (
	"strconv"
	"time"

	"banmesh/mesh/control"
)

// The values of flags: each refuses what cannot be meant, in one line.

// duration is a flag's duration; zero where the flag was not given.
type duration time.Duration

// String is what the library shows as the default in --help; "" shows none.
func (d *duration) String() string {
	if *d == 0 {
		return ""
	}
	return formatDuration(d.length())
}

func (d *duration) Set(s string) error {
	v, err := control.ParseDuration(s)
	*d = duration(v)
	return err
}

// until returns the end of d from start, or without end.
func (d duration) until(start time.Time) control.Until {
	if d.length() == control.Forever {
		return control.Never
	}
	return control.UntilAt(start.Add(d.length()))
}

// seconds is a moment as Unix seconds, a fraction allowed; zero where the flag was not given.
type seconds struct{ at time.Time }

func (s *seconds) String() string {
	if s.at.IsZero() {
		return ""
	}
	return strconv.FormatInt(s.at.Unix(), 10)
}

// Set, here and below, uses the grammar of package control, which is also the agent's: a value that the
// command takes is not refused later.
func (s *seconds) Set(text string) (err error) {
	s.at, err = control.ParseSeconds(text)
	return err
}

// count is a number of failures, as control.ParseFailures takes it.
type count uint32

func (n *count) String() string { return strconv.FormatUint(uint64(*n), 10) }

func (n *count) Set(s string) error {
	v, err := control.ParseFailures(s)
	*n = count(v)
	return err
}

// binary is fail2ban's 0 or 1.
type binary bool

func (b *binary) String() string {
	if *b {
		return "1"
	}
	return "0"
}

func (b *binary) Set(s string) error {
	v, err := control.ParseBinary(s)
	*b = binary(v)
	return err
}

// jail is a jail's name; "" where the flag was not given.
type jail string

func (j *jail) String() string { return string(*j) }

func (j *jail) Set(s string) error {
	*j = jail(s)
	return control.CheckJail(s)
}

// text is a reason or comment.
type text string

func (t *text) String() string { return string(*t) }

func (t *text) Set(s string) error {
	*t = text(s)
	return control.CheckText("text", s)
}

// formatDuration says a duration as an operator would: two units at most, none of them zero.
func formatDuration(d time.Duration) string {
	if d == control.Forever {
		return "without end"
	}
	if d < 0 {
		return "-" + formatDuration(-d)
	}
	// Clocks differ by less than a second, which 0s would hide.
	if d < time.Second && d > 0 {
		return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
	}
	steps := []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}}
	s := ""
	parts := 0
	for _, step := range steps {
		if n := d / step.unit; n > 0 && parts < 2 {
			s += strconv.FormatInt(int64(n), 10) + step.name
			d -= n * step.unit
			parts++
		} else if parts > 0 {
			// A unit that is zero ends it: nobody asks for the seconds of a day and no hours.
			break
		}
	}
	if s == "" {
		return "0s"
	}
	return s
}

// length returns the duration.
func (d duration) length() time.Duration { return time.Duration(d) }
