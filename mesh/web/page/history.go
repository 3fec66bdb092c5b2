package page

import "time"

const minutesKept = 24 * 60

// history counts the bans that began in each minute of the last day, and the live bans at the end of each.
type history struct {
	minutes [minutesKept]minute
}

// minute is a slot of a ring: an older minute's counts are overwritten when its slot comes round again, hence
// number.
type minute struct {
	number  int64 // minutes since 1970; the counts are valid only for this one
	bans    int
	live    int
	sampled bool // live is known
}

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

// at returns the counter of a minute, cleared if it was another minute's.
func (h *history) at(number int64) *minute {
	m := &h.minutes[number%minutesKept]
	if m.number != number {
		*m = minute{number: number}
	}
	return m
}

// count adds a ban by its start, which may be long ago.
func (h *history) count(start, now time.Time) {
	n, current := minuteOf(start), minuteOf(now)
	if n > current {
		n = current // the ban's clock is ahead
	}
	// n may be 0 or less where this router's own clock is near 1970, as without a battery; it is an index.
	if n > current-minutesKept && n > 0 {
		h.at(n).bans++
	}
}

// sample records how many bans are live.
func (h *history) sample(live int, now time.Time) {
	m := h.at(minuteOf(now))
	m.live, m.sampled = live, true
}

// atLeast raises each count to another history's if that is larger. One counts the bans still live, the other those seen
// since the watch began, and neither has all.
func (h *history) atLeast(other *history) {
	for i := range other.minutes {
		o := &other.minutes[i]
		// An older minute of the same slot is out of the day by now.
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

// spans returns the last n spans of that many minutes each, the current one last.
func (h *history) spans(n, minutes int, now time.Time) []span {
	out := make([]span, n)
	// Spans begin at round times, so the current one is incomplete.
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
