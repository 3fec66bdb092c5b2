package mesh

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
)

// A conductor that is given by name stays exempt while its name cannot be looked up.
func TestAConductorStaysExemptWithoutItsNameServer(t *testing.T) {
	at := netip.MustParseAddr("192.0.2.40")
	var down error
	a := &Agent{}
	a.doors.Addresses = func() []netip.Addr { return nil }
	a.doors.Lookup = func(context.Context, string) ([]netip.Addr, error) {
		if down != nil {
			return nil, down
		}
		return []netip.Addr{at}, nil
	}
	world := a.doors
	world.Lookup = a.lastFound
	cfg := &Config{}
	cfg.Commit.Conductors = []string{"conductor.example:830"}
	look := func(when string, want netip.Addr) {
		t.Helper()
		got := ownNeverBan(t.Context(), cfg, &world, netip.Addr{})
		if !slices.Equal(got, []netip.Prefix{netip.PrefixFrom(want, 32)}) {
			t.Errorf("%s: %v is exempt", when, got)
		}
	}
	look("looked up", at)
	down = errors.New("no name server answers")
	look("while the name server is down", at)
	down, at = nil, netip.MustParseAddr("192.0.2.41")
	look("moved", at)
}
