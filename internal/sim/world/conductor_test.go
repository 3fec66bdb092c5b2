package world

import (
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
