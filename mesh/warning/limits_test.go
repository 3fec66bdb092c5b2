package warning

import (
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
