package page

import "time"

const minutesKept = 24 * 60

// history counts the bans of each minute of the last day, by the minute in which
// they began, and what was live at its end.
type history struct {
	minutes [minutesKept]minute
}

type minute struct {
	number  int64 // since 1970; any other one's count is none of its
	bans    int
	live    int
	sampled bool // live is known
}

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

// at is the counter of a minute, cleared where it is another one's.
func (h *history) at(number int64) *minute {
	m := &h.minutes[number%minutesKept]
	if m.number != number {
		*m = minute{number: number}
	}
	return m
}

// count adds a ban that began at a time, which may be long ago.
func (h *history) count(start, now time.Time) {
	n, current := minuteOf(start), minuteOf(now)
	if n > current {
		n = current // a clock that is ahead
	}
	if n > current-minutesKept && n > 0 {
		h.at(n).bans++
	}
}

// sample notes how many bans are live.
func (h *history) sample(live int, now time.Time) {
	m := h.at(minuteOf(now))
	m.live, m.sampled = live, true
}

// atLeast takes over what another count found more: it knows what is live still,
// this one what it has seen, both of them not all.
func (h *history) atLeast(other *history) {
	for i := range other.minutes {
		o := &other.minutes[i]
		if o.bans == 0 || o.number < h.minutes[i].number {
			continue
		}
		m := h.at(o.number)
		m.bans = max(m.bans, o.bans)
	}
}

// span is one bar of a plot.
type span struct {
	from    time.Time
	bans    int
	live    int
	sampled bool
}

// spans are the last n spans of some minutes each, the present one last.
func (h *history) spans(n, minutes int, now time.Time) []span {
	out := make([]span, n)
	// Spans begin at round times: the present one is not full yet.
	first := minuteOf(now)/int64(minutes)*int64(minutes) - int64((n-1)*minutes)
	for i := range out {
		s := &out[i]
		begin := first + int64(i*minutes)
		s.from = time.Unix(begin*60, 0).UTC()
		for k := begin; k < begin+int64(minutes); k++ {
			m := &h.minutes[k%minutesKept]
			if m.number != k {
				continue
			}
			s.bans += m.bans
			if m.sampled {
				s.live, s.sampled = m.live, true
			}
		}
	}
	return out
}
