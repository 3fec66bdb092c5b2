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
