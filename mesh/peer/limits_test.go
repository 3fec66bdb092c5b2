package peer

import (
	"strings"
	"testing"
	"time"

	"banmesh/mesh/gossip"
)

func TestOtherLimitsAreTold(t *testing.T) {
	o := otherLimits{own: 1}
	o.heard("r1", 1)
	o.heard("r2", 2)
	o.heard("gone", 2)
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
