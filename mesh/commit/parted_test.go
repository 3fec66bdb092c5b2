package commit

import (
	"slices"
	"testing"
	"time"
)

// TestRemovedByTheOtherSideOfACutIsBackAfterIt: what another leader has removed
// looks like a removal by hand as long as its word does not get through. Once it
// does, a ban that survived that leader's lift need not wait.
func TestRemovedByTheOtherSideOfACutIsBackAfterIt(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a, b := newAgent(t, s, "a"), newAgent(t, s, "b")
		defer a.halt()
		defer b.halt()
		a.set.ban(time.Hour, many(1)...)
		b.lead(false)
		pass(time.Minute)
		wantTenant(t, s, many(1)...)
		a.set.merge(b.set)

		b.lead(true) // on its side
		pass(time.Minute)
		a.set.unban(true, many(1)...)
		a.Notify(Removal)
		pass(time.Minute)
		wantTenant(t, s)
		b.set.ban(time.Hour, many(2)...)
		b.Notify(Addition)
		pass(time.Minute)
		wantTenant(t, s, many(2)[1]) // b must take the other's removal for one by hand
		if n := b.told(EventByHand); n != 1 {
			t.Fatalf("told %d times of a removal by hand, want once", n)
		}

		a.lead(false)
		a.set.merge(b.set)
		b.Notify(Removal)
		pass(15 * time.Second)
		if want := many(2); !slices.Equal(s.tenant(), want) {
			t.Errorf("tenant = %v 15 s after the cut, want %v", s.tenant(), want)
		}
	})
}
