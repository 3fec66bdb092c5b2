package neverban

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"banmesh/store"
)

// A conductor that is given by name stays exempt while its name cannot be looked up.
func TestAConductorStaysExemptWithoutItsNameServer(t *testing.T) {
	at := netip.MustParseAddr("192.0.2.40")
	var down error
	l := New(Config{
		Conductors: []string{"conductor.example:830"}, Advertised: func() string { return "" },
		Addresses: func() []netip.Addr { return nil },
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			if down != nil {
				return nil, down
			}
			return []netip.Addr{at}, nil
		},
	})
	look := func(when string, want netip.Addr) {
		t.Helper()
		got := l.needed(t.Context(), l.lastFound)
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
	l := New(Config{
		Name: "router1", Set: s, Conductors: []string{"conductor.example:830"}, Advertised: func() string { return "" },
		Addresses: func() []netip.Addr { return nil },
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("192.0.2.41")}, down
		},
	})
	if got := l.exempt(t.Context()); !slices.Equal(got, last[:1]) {
		t.Errorf("without a name server %v is exempt, want the address of the run before", got)
	}
	down = nil
	if got := l.exempt(t.Context()); !slices.Equal(got, []netip.Prefix{netip.MustParsePrefix("192.0.2.41/32")}) {
		t.Errorf("with one %v is exempt, want the conductor as it is now", got)
	}
}
