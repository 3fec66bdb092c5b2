package commit

import (
	"testing"
	"time"
)

// TestRemovalByHandOutlivesTheLeaderThatSawIt: the next leader has read running
// long before, and knows of the removal by what the former one told.
func TestRemovalByHandOutlivesTheLeaderThatSawIt(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a, b := newAgent(t, s, "a"), newAgent(t, s, "b")
		defer a.halt()
		defer b.halt()
		b.lead(false)
		a.set.ban(time.Hour, many(1)...)
		pass(time.Minute)
		wantTenant(t, s, many(1)...)
		b.set.merge(a.set)

		s.byHand(nil, many(1))
		pass(6 * time.Minute) // the leader looks each five
		told := a.RemovedByHand()
		if len(told) != 1 {
			t.Fatalf("a tells of %v, want the one that was removed", told)
		}
		b.HeardByHand(told)
		a.lead(false)
		b.lead(true)
		pass(5 * time.Minute)
		wantTenant(t, s)
		if st := b.Status(); st.ByHand != 1 {
			t.Errorf("b shows %d removed by hand, want 1", st.ByHand)
		}
		pass(10 * time.Minute)
		wantTenant(t, s, many(1)...)
	})
}
