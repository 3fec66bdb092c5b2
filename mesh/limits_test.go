package mesh

import (
	"strings"
	"testing"
	"time"

	"banmesh/mesh/config"
	"banmesh/mesh/gossip"
	"banmesh/store"
)

func TestOtherLimitsAreTold(t *testing.T) {
	a, b := config.Default().Limits, config.Default().Limits
	a.Members, b.Members = []string{"r1", "r2"}, []string{"r2", "r1", "r2"}
	b.Stored = 5000000 // a matter of its memory
	if a.Sum() != b.Sum() {
		t.Error("the same limits have two names")
	}
	b.AllowsPerOrigin++
	if a.Sum() == b.Sum() {
		t.Error("other limits have the same name")
	}
	o := otherLimits{own: a.Sum()}
	o.heard("r1", a.Sum())
	o.heard("r2", b.Sum())
	o.heard("gone", b.Sum())
	members := []gossip.Member{{Name: "r1"}, {Name: "r2"}, {Name: "r3"}, {Name: "gone", State: gossip.Failed}}
	if w := o.warnings(members); len(w) != 1 || !strings.HasPrefix(w[0], "other limits at r2: ") {
		t.Errorf("warnings %q", w)
	}
	for i := range 3 * maxOtherLimits {
		o.heard(strings.Repeat("x", i%60)+time.Duration(i).String(), 1)
	}
	if len(o.of) > maxOtherLimits {
		t.Errorf("%d names remembered", len(o.of))
	}
}

func TestWhatExceedsALimitIsSaidInWords(t *testing.T) {
	got := exceedWarnings([]store.Excess{{Origin: "x", Bans: 2, Lifts: 1, NeverBans: 3}, {Origin: "y", Strange: true}})
	want := "2 bans, 1 lift, 3 never-ban prefixes of x do not count: it exceeds the limits; if it is not in order, `banmesh revoke --origin x --block`"
	if len(got) != 2 || got[0] != want || !strings.Contains(got[1], "limits.members") {
		t.Errorf("%q", got)
	}
	if n := len(exceedWarnings(make([]store.Excess, 100))); n != 6 {
		t.Errorf("%d lines for a hundred made-up members", n)
	}
}
