package mesh

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// clock is the mesh's time: the own clock, corrected to the median of the
// peers' clocks. Expiry follows it, so that a router whose clock is an hour off
// neither ends bans early nor keeps them.
type clock struct {
	raw  func() time.Time
	last atomic.Pointer[reading]

	mu     sync.Mutex
	former []time.Duration // shifts that held in this run, oldest first
}

// maxFormer bounds how many shifts are remembered: a clock that runs too fast has
// a new one every few seconds.
const maxFormer = 16

// reading is how the own clock stood to the others' at one moment.
type reading struct {
	offset   time.Duration // median of the peers' clocks less the own one
	agree    bool          // the two are within a minute of each other
	wall     time.Time
	steady   time.Time // with its monotonic reading
	compared func() (offset time.Duration, agree bool)
}

// shift is what to add to a time of this router to get the mesh's: nothing while its clock agrees, as small
// differences are noise.
func (r *reading) shift() time.Duration {
	if r.agree {
		return 0
	}
	return r.offset.Round(time.Second)
}

// stepped is how far the own clock may move against the steady time between two
// readings without having been set.
const stepped = time.Second

// newClock takes the router's clock for right until there is a mesh to compare it with.
func newClock(raw func() time.Time) *clock {
	c := &clock{raw: raw}
	c.compare(func() (time.Duration, bool) { return 0, true })
	return c
}

// compare takes a new reading.
func (c *clock) compare(with func() (offset time.Duration, agree bool)) *reading {
	// Round drops the monotonic reading, which a step of the clock does not move. The clocks are read first: read finds a step
	// during the comparison then, while the other order would hide it.
	r := &reading{wall: c.raw().Round(0), steady: time.Now(), compared: with}
	r.offset, r.agree = with()
	if was := c.last.Swap(r); was != nil && (r.shift()-was.shift()).Abs() > time.Second {
		c.remember(was.shift())
	}
	return r
}

// read returns the last reading, or a new one where the clock was set since: a
// ban given before pulse compares again would start, and end, hours from now.
// The store reads the clock with its lock held, so compare must not call it.
func (c *clock) read() *reading {
	r := c.last.Load()
	if step := c.raw().Round(0).Sub(r.wall) - time.Since(r.steady); step.Abs() > stepped {
		return c.compare(r.compared)
	}
	return r
}

func (c *clock) now() time.Time { return c.raw().Add(c.read().offset) }

// agrees reports whether the own clock is within a minute of the others'.
func (c *clock) agrees() bool { return c.read().agree }

// shift is what must be added to a time that a program on this router took from
// its clock. It is nothing while the clocks agree, so that the times that
// identify an offence stay what they were, and whole seconds otherwise.
func (c *clock) shift() time.Duration { return c.read().shift() }

// remember keeps by how much the clock was once off, latest last: fail2ban's database has starts from those
// times. Shifts within a second of each other are one.
func (c *clock) remember(shift time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	near := func(d time.Duration) bool { return (d - shift).Abs() <= time.Second }
	c.former = append(slices.DeleteFunc(c.former, near), shift)
	if over := len(c.former) - maxFormer; over > 0 {
		c.former = slices.Delete(c.former, 0, over)
	}
}

// shiftOf is what must be added to a time that a program on this router noted a
// while ago, since when the clock may have been set: the first shift, today's or a
// former one, with which the time is known; if it is known with none, today's. In
// a former run of this agent, if the clock was right, it was none.
func (c *clock) shiftOf(known func(shift time.Duration) bool) (shift time.Duration, ok bool) {
	today := c.shift()
	if known(today) {
		return today, true
	}
	c.mu.Lock()
	shifts := append([]time.Duration{0}, c.former...)
	c.mu.Unlock()
	for _, s := range slices.Backward(shifts) {
		if known(s) {
			return s, true
		}
	}
	return today, false
}

// local is the time by which this router's other programs are read: the own
// clock, shifted as the times that they tell.
func (c *clock) local() time.Time { return c.raw().Add(c.shift()) }
