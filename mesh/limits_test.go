package mesh

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/gossip"
	"banmesh/store"
)

func TestLimitsAreChecked(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"negative":            {func(c *Config) { c.Limits.LiftsPerOrigin = -1 }, "limits.lifts_per_origin: -1 is negative"},
		"narrower than a bit": {func(c *Config) { c.Limits.WidestIPv4 = 33 }, "limits.widest_ipv4: 33 is more than 32"},
		"less kept than live": {func(c *Config) { c.Limits.StoredPerOrigin = 10 }, "limits.stored_per_origin: 10 is less"},
		"without itself":      {func(c *Config) { c.Limits.Members = []string{"router2"} }, "limits.members: does not name router1"},
		"no name":             {func(c *Config) { c.Limits.Members = []string{"router1", "a b"} }, `limits.members[1]: "a b"`},
		"too much never-ban": {func(c *Config) {
			c.NeverBan = []ConfigPrefix{{netip.MustParsePrefix("10.0.0.0/8")}, {netip.MustParsePrefix("20.0.0.0/8")}, {netip.MustParsePrefix("30.0.0.0/8")}}
		}, "never_ban[2]: 30.0.0.0/8 does not count beside the others"},
	} {
		c := DefaultConfig()
		c.Name, c.Gossip.Bind = "router1", "127.0.0.1:0"
		tt.change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
}

func TestOtherLimitsAreTold(t *testing.T) {
	a, b := defaultLimits(), defaultLimits()
	a.Members, b.Members = []string{"r1", "r2"}, []string{"r2", "r1", "r2"}
	b.Stored = 5000000 // a matter of its memory
	if a.sum() != b.sum() {
		t.Error("the same limits have two names")
	}
	b.AllowsPerOrigin++
	if a.sum() == b.sum() {
		t.Error("other limits have the same name")
	}
	o := otherLimits{own: a.sum()}
	o.heard("r1", a.sum())
	o.heard("r2", b.sum())
	o.heard("gone", b.sum())
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
