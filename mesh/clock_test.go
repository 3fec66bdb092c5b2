package mesh

import (
	"testing"
	"time"
)

// TestAStepOfTheClockIsSeenAtOnce: nothing waits for the next comparison, and the clock of a router without others is followed.
func TestAStepOfTheClockIsSeenAtOnce(t *testing.T) {
	for _, alone := range []bool{false, true} {
		odd := &stepping{began: time.Now()}
		c := newClock(odd.now)
		off := func() time.Duration {
			if alone {
				return 0
			}
			return -time.Duration(odd.off.Load())
		}
		c.compare(func() (time.Duration, bool) { return off(), off().Abs() <= time.Minute })
		for _, d := range []time.Duration{-3 * time.Hour, 30 * time.Minute, 150 * time.Minute, 10 * time.Second, 5 * time.Hour, -5*time.Hour - 10*time.Second} {
			odd.step(d)
			want := odd.now().Add(off())
			if got := c.now().Sub(want).Abs(); got > time.Second {
				t.Errorf("alone %t, a step of %v: the mesh's time is %v off", alone, d, got)
			}
			agree := off().Abs() <= time.Minute
			if c.agrees() != agree {
				t.Errorf("alone %t, a step of %v: agrees %t, want %t", alone, d, !agree, agree)
			}
			shift := time.Duration(0)
			if !agree {
				shift = off()
			}
			if got := c.shift(); got != shift {
				t.Errorf("alone %t, a step of %v: shift %v, want %v", alone, d, got, shift)
			}
		}
	}
}

// A step while the clocks are being compared is seen by the next reading.
func TestAStepDuringAComparisonIsSeen(t *testing.T) {
	odd := &stepping{began: time.Now()}
	c := newClock(odd.now)
	stepping := true
	c.compare(func() (time.Duration, bool) {
		offset := -time.Duration(odd.off.Load())
		if stepping {
			stepping = false
			odd.step(time.Hour)
		}
		return offset, offset == 0
	})
	if got := time.Until(c.now()).Abs(); got > time.Second {
		t.Errorf("the mesh's time is %v off", got)
	}
}
