package config

import (
	"net/netip"
	"strings"
	"testing"
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
			c.NeverBan = []Prefix{{netip.MustParsePrefix("10.0.0.0/8")}, {netip.MustParsePrefix("20.0.0.0/8")}, {netip.MustParsePrefix("30.0.0.0/8")}}
		}, "never_ban[2]: 30.0.0.0/8 does not count beside the others"},
	} {
		c := Default()
		c.Name, c.Gossip.Bind = "router1", "127.0.0.1:0"
		tt.change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
}

func TestLimitsHaveAShortName(t *testing.T) {
	a, b := Default().Limits, Default().Limits
	a.Members, b.Members = []string{"r1", "r2"}, []string{"r2", "r1", "r2"}
	b.Stored = 5000000 // a matter of its memory
	if a.Sum() != b.Sum() {
		t.Error("the same limits have two names")
	}
	b.AllowsPerOrigin++
	if a.Sum() == b.Sum() {
		t.Error("other limits have the same name")
	}
}
