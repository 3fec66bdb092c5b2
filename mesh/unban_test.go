package mesh

import (
	"net/netip"
	"testing"
	"time"

	"banmesh/mesh/control"
)

// Each ban after an unban is a new offence, and begins later than the one that
// was lifted: in the future, where this is done faster than in real life.
func TestUnbanLiftsWhatIsBannedHoweverLateItBegins(t *testing.T) {
	t.Parallel()
	a := started(t, "alone", nil)
	for round := range 4 {
		ban(t, a, "203.0.113.7/32")
		reply, err := a.Unban(t.Context(), control.UnbanCall{
			Prefixes: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32")}, At: control.At(time.Now()),
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(reply.Lifted) != 1 || reply.Lifted[0].Offences != 1 {
			t.Errorf("round %d: lifted %+v, want one offence", round, reply.Lifted)
		}
	}
	if left := listing(t, a); len(left) != 0 {
		t.Errorf("still listed: %v", left)
	}
}
