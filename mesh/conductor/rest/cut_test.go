package rest_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"banmesh/internal/sim/conductorsim"
	"banmesh/internal/sim/conductorsim/history"
	"banmesh/mesh/conductor"
)

func TestCutSessionsEndsThoseOfBannedSourcesOnly(t *testing.T) {
	c := serve(t)
	r := c.client()
	var keep []string
	for _, f := range []struct {
		router, node, source string
		cut                  bool
	}{
		{"r1", "node1", "192.0.2.1", true}, {"r1", "node2", "192.0.2.1", true}, {"r2", "n 1", "198.51.100.77", true},
		{"r1", "node1", "192.0.2.2", false}, {"r2", "n 1", "203.0.113.1", false},
		{"r1", "node1", "2001:db8:1::1", true}, {"r1", "node1", "2001:db8:2::1", false},
	} {
		id := c.AddFlow(f.router, f.node, netip.MustParseAddr(f.source))
		if !f.cut {
			keep = append(keep, id)
		}
	}
	n, err := r.CutSessions(t.Context(), prefixes("198.51.100.0/24", "192.0.2.1/32", "2001:db8:1::/48"))
	if err != nil || n != 4 {
		t.Errorf("ended %d, %v", n, err)
	}
	var left []string
	for _, f := range c.Flows() {
		left = append(left, f.Session)
	}
	slices.Sort(left)
	slices.Sort(keep)
	if !slices.Equal(left, keep) {
		t.Errorf("left are %v, want %v", left, keep)
	}
	cuts := 0
	for _, e := range c.History().Events() {
		if e.Kind == history.Cut {
			cuts++
		}
	}
	if cuts != 4 {
		t.Errorf("%d calls", cuts)
	}
}

func TestCutSessionsNeverEndsThemAll(t *testing.T) {
	c := serve(t)
	r := c.client()
	c.AddFlow("r1", "node1", netip.MustParseAddr("192.0.2.1"))
	if _, err := r.CutSessions(t.Context(), prefixes("0.0.0.0/0")); !errors.Is(err, conductor.ErrWideOpen) {
		t.Errorf("%v", err)
	}
	if n, err := r.CutSessions(t.Context(), nil); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if len(c.Flows()) != 1 {
		t.Error("a session was ended")
	}
}

func TestCutSessionsTellsWhatTheRoleLacks(t *testing.T) {
	c := serve(t)
	r := c.client()
	c.AddFlow("r1", "node1", netip.MustParseAddr("192.0.2.1"))
	if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/traffic/session", N: 403}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.CutSessions(t.Context(), prefixes("192.0.2.1/32")); !errors.Is(err, conductor.ErrForbidden) {
		t.Errorf("%v", err)
	}
}

// A word in place of the flows does not mean that there are none.
func TestCutSessionsTakesNoWordForTheFlows(t *testing.T) {
	c := serve(t)
	c.AddFlow("r1", "node1", netip.MustParseAddr("192.0.2.1"))
	if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/graphql", N: 200, Body: "Starting"}); err != nil {
		t.Fatal(err)
	}
	if n, err := c.client().CutSessions(t.Context(), prefixes("192.0.2.1/32")); !errors.Is(err, conductor.ErrProtocol) {
		t.Errorf("ended %d, %v", n, err)
	}
}
