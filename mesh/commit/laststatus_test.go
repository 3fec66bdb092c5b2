package commit

import (
	"testing"
	"time"
)

func TestLastStatusDoesNotPlan(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(10 * time.Second)
		before := a.Status()
		a.set.ban(time.Hour, many(3)...)
		a.Notify(Addition)
		if st := a.LastStatus(); st.PendingAdd != before.PendingAdd {
			t.Errorf("before anybody planned: %d to add, want what was last known, %d", st.PendingAdd, before.PendingAdd)
		}
		if st := a.Status(); st.PendingAdd != 3 {
			t.Fatalf("Status: %d to add, want 3", st.PendingAdd)
		}
		if st := a.LastStatus(); st.PendingAdd != 3 || st.State != StatePending {
			t.Errorf("after a plan: %+v, want what Status said, pending with 3 to add", st)
		}
	})
}

// The dearer a plan is, the seldomer one is made only to show its sizes.
func TestStatusTakesLittleOfTheTime(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(10 * time.Second)
		a.set.slow.Store(int64(time.Second))
		a.set.looks.Store(0)
		for range 120 { // others look each second, and something changes each time
			a.Committer.mu.Lock()
			a.estimate.stale = true
			a.Committer.mu.Unlock()
			a.Status()
			pass(time.Second)
		}
		if n := a.set.looks.Load(); n == 0 || n > 10 {
			t.Errorf("the set was looked through %d times in two minutes, a second each; want a few", n)
		}
	})
}
