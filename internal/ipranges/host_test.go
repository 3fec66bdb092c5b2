package ipranges_test

import (
	"net/netip"
	"testing"

	"banmesh/internal/ipranges"
)

func TestAHostHasAnIPv4AddressOrASlash64(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32",
		"2001:db8::1:2:3:4": "2001:db8::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := ipranges.Host(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("Host(%s) = %s, want %s", addr, got, want)
		}
	}
}
