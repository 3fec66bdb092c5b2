package gossip

import (
	"net/netip"
	"strings"
	"testing"
)

func loopback() netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:0") }

func TestValidateNamesTheField(t *testing.T) {
	tests := []struct {
		want   string
		change func(*Config)
	}{
		{"name is empty", func(c *Config) { c.Name = "" }},
		{"longer than 64", func(c *Config) { c.Name = strings.Repeat("x", 65) }},
		{"cannot be shown", func(c *Config) { c.Name = "a\x00" }},
		{"gossip.label", func(c *Config) { c.Label = strings.Repeat("x", 33) }},
		{"gossip.profile", func(c *Config) { c.Profile = "moon" }},
		{"gossip.bind", func(c *Config) { c.Bind = netip.AddrPort{} }},
		{"gossip.advertise", func(c *Config) { c.Advertise = "router.example" }},
		{`"a:0"`, func(c *Config) { c.Join = []string{"a:0"} }},
		{`"a:99999"`, func(c *Config) { c.Join = []string{"a:99999"} }},
		{`":1"`, func(c *Config) { c.Join = []string{":1"} }},
		{"gossip.keyring", func(c *Config) { c.Bind = netip.MustParseAddrPort("192.0.2.1:1") }},
	}
	for _, tt := range tests {
		c := DefaultConfig()
		c.Name, c.Set, c.Bind = "a", newFakeSet("a", 1), loopback()
		tt.change(&c)
		if err := c.validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error %v, want one with %q", err, tt.want)
		}
	}
}

func TestJoinAddressesGetTheirPort(t *testing.T) {
	for in, want := range map[string]string{
		"router2": "router2 7946", "router2:1": "router2 1", "192.0.2.1": "192.0.2.1 7946",
		"2001:db8::1": "2001:db8::1 7946", "[2001:db8::1]:5": "2001:db8::1 5",
		"[2001:db8::1]": "2001:db8::1 7946", "[::1]": "::1 7946",
	} {
		h, p, err := splitHostPort(in)
		if got := h + " " + p; err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
}

// Names of others are logged and shown before any of their records is.
func TestNamesThatSteerATerminalAreNoNames(t *testing.T) {
	for _, bad := range []string{"", "a b", "a/b", "a\x1b[31m", "a\u009b31m", "\u202eevil", "line\u2028", "\xff", "a\u00a0b"} {
		if checkName(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	m, err := decodeMeta(nodeMeta{Version: "1\x1b[2J\u202e", Run: 2}.encode())
	if err != nil || m.Version != "1?[2J?" {
		t.Errorf("version %q, %v", m.Version, err)
	}
}
