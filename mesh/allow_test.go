package mesh

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"banmesh/mesh/control"
)

// With the limits as they are by default, what an operator confirms takes
// effect, and is told of until it ends.
func TestAnAllowOfHalfTheInternetCountsAndIsTold(t *testing.T) {
	t.Parallel()
	a := started(t, "alone", nil)
	half := netip.MustParsePrefix("0.0.0.0/1")
	ban(t, a, "9.9.9.9/32")
	reply, err := a.Allow(t.Context(), control.AllowCall{Prefixes: []netip.Prefix{half}, Until: control.Never, Confirmed: true})
	if err != nil {
		t.Fatal(err)
	}
	if reply.Covered != 1 || listing(t, a)["9.9.9.9/32"].Effective {
		t.Errorf("%d bans are covered; the ban: %+v", reply.Covered, listing(t, a)["9.9.9.9/32"])
	}
	told := func() bool {
		return slices.ContainsFunc(status(t, a).Warnings, func(w string) bool { return strings.HasPrefix(w, "0.0.0.0/1 is allowed by alone") })
	}
	if !told() {
		t.Errorf("status does not tell of it: %q", status(t, a).Warnings)
	}
	if _, err := a.DropAllow(t.Context(), control.DropAllowCall{Prefixes: []netip.Prefix{half}}); err != nil {
		t.Fatal(err)
	}
	if told() {
		t.Error("status still tells of it")
	}
}
