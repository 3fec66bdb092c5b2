package mesh

import (
	"sync/atomic"
	"time"
)

// clock is the mesh's time: the own clock, corrected to the median of the
// peers' clocks. Expiry follows it, so that a router whose clock is an hour off
// neither ends bans early nor keeps them.
type clock struct {
	raw    func() time.Time
	offset atomic.Int64 // median of the peers' clocks less the own one, in ns
	agree  atomic.Bool  // the two are within a minute of each other
}

func newClock(raw func() time.Time) *clock {
	c := &clock{raw: raw}
	c.agree.Store(true)
	return c
}

func (c *clock) set(offset time.Duration, agree bool) {
	c.offset.Store(int64(offset))
	c.agree.Store(agree)
}

func (c *clock) now() time.Time { return c.raw().Add(time.Duration(c.offset.Load())) }

// shift is what must be added to a time that a program on this router took from
// its clock. It is nothing while the clocks agree, so that the times that
// identify an offence stay what they were, and whole seconds otherwise.
func (c *clock) shift() time.Duration {
	if c.agree.Load() {
		return 0
	}
	return time.Duration(c.offset.Load()).Round(time.Second)
}

// local is the time by which this router's other programs are read: the own
// clock, shifted as the times that they tell.
func (c *clock) local() time.Time { return c.raw().Add(c.shift()) }
