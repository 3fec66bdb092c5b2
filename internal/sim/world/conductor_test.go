package world

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestWhoseSessionMayBeKilled: a leader that is not heard may be frozen, and lose its session and lock; one that is heard never.
func TestWhoseSessionMayBeKilled(t *testing.T) {
	for _, cut := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(Config{Seed: 1, Members: 2})
			defer func() { w.net.Close(); synctest.Wait() }()
			a, b := w.members[0], w.members[1]
			if cut {
				w.net.Cut(b.addr.Addr(), a.addr.Addr())
			}
			time.Sleep(2 * time.Minute)
			of := func(m *Member) *session {
				s, err := (&driver{w.console, m, int(m.runs.Load())}).Open(t.Context(), 0)
				if err != nil {
					t.Fatal(err)
				}
				return s.(*session)
			}
			if err := of(a).Kill(t.Context(), of(b).id); err != nil {
				t.Fatal(err)
			}
			if found := strings.Contains(strings.Join(w.faults, ""), "killed the session"); found == cut {
				t.Errorf("cut: %t; faults: %q", cut, w.faults)
			}
		})
	}
}

// TestPartsOfAWiderPrefixAddNothing: a freeze stops additions, and lets an allow cut a hole.
func TestPartsOfAWiderPrefixAddNothing(t *testing.T) {
	of := func(prefixes ...string) tree {
		c := tree{addrs: make(map[netip.Prefix]bool)}
		for _, p := range prefixes {
			c.addrs[netip.MustParsePrefix(p)] = true
		}
		return c
	}
	got := grown(of("203.0.113.0/30", "203.0.113.9/32"), of("203.0.113.0/31", "203.0.113.3/32", "203.0.113.10/32"))
	if want := []netip.Prefix{netip.MustParsePrefix("203.0.113.10/32")}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
