package warning

import (
	"net/netip"
	"strings"
	"testing"

	"banmesh/store"
)

func TestWhatExceedsALimitIsSaidInWords(t *testing.T) {
	got := Exceeding([]store.Excess{{Origin: "x", Bans: 2, Lifts: 1, NeverBans: 3}, {Origin: "y", Strange: true}})
	want := "2 bans, 1 lift, 3 never-ban prefixes of x do not count: it exceeds the limits; if it is not in order, `banmesh revoke --origin x --block`"
	if len(got) != 2 || got[0] != want || !strings.Contains(got[1], "limits.members") {
		t.Errorf("%q", got)
	}
	if n := len(Exceeding(make([]store.Excess, 100))); n != 6 {
		t.Errorf("%d lines for a hundred made-up members", n)
	}
}

func TestWideAllowsThatDoNotCountAreNamedAsWell(t *testing.T) {
	half := func(p, why string) store.AllowEntry {
		return store.AllowEntry{Prefix: netip.MustParsePrefix(p), Origin: "x", Reason: why}
	}
	got := WideAllows([]store.AllowEntry{half("0.0.0.0/1", ""), half("128.0.0.0/1", "over the limit"), half("192.0.2.0/24", "over the limit")})
	if len(got) != 2 || !strings.Contains(got[0], "0.0.0.0/1 is allowed by x") || got[1] != "128.0.0.0/1, which x allows, does not count: over the limit" {
		t.Errorf("%q", got)
	}
}
