package mesh

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"banmesh/mesh/config"
	"banmesh/store"
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
	cfg := &config.Config{}
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

// So it does over a restart: the lease of the run before has its addresses.
func TestAConductorStaysExemptOverARestartWithoutItsNameServer(t *testing.T) {
	s, err := store.Open(store.Config{Path: filepath.Join(t.TempDir(), "store"), Origin: "router1"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	last := []netip.Prefix{netip.MustParsePrefix("192.0.2.40/32"), netip.MustParsePrefix("198.51.100.0/24")}
	if err := s.PublishNeverBan(t.Context(), last, store.At(time.Now().Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	down := errors.New("no name server answers")
	a := &Agent{store: s}
	a.doors.Addresses = func() []netip.Addr { return nil }
	a.doors.Lookup = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("192.0.2.41")}, down
	}
	cfg := &config.Config{Name: "router1"}
	cfg.Commit.Conductors = []string{"conductor.example:830"}
	if got := a.exempt(t.Context(), cfg, netip.Addr{}); !slices.Equal(got, last[:1]) {
		t.Errorf("without a name server %v is exempt, want the address of the run before", got)
	}
	down = nil
	if got := a.exempt(t.Context(), cfg, netip.Addr{}); !slices.Equal(got, []netip.Prefix{netip.MustParsePrefix("192.0.2.41/32")}) {
		t.Errorf("with one %v is exempt, want the conductor as it is now", got)
	}
}
