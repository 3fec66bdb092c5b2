package netconf

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"banmesh/mesh/conductor/prefixset"
	"banmesh/netconfclient"
)

func manyPrefixes(n int) []netip.Prefix {
	out := make([]netip.Prefix, n)
	for i := range out {
		out[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + i>>16), byte(i >> 8), byte(i), 7}), 32)
	}
	return prefixset.Sort(out)
}

// largeReply is what a server with n addresses sends for a get-config.
func largeReply(n int) *netconfclient.Reply {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><nc:rpc-reply xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" message-id="1"><nc:data>` +
		`<t128:config xmlns:t128="` + nsConfig + `"><authy:authority xmlns:authy="` + nsAuthority + `"><authy:tenant>` +
		`<authy:name>t</authy:name><authy:description>d</authy:description><authy:member><authy:neighborhood>n</authy:neighborhood>`)
	for _, p := range manyPrefixes(n) {
		fmt.Fprintf(&b, "\n          <authy:address>%v</authy:address>", p)
	}
	b.WriteString(`</authy:member></authy:tenant></authy:authority></t128:config></nc:data></nc:rpc-reply>`)
	return &netconfclient.Reply{Raw: b.Bytes()}
}

func BenchmarkParse100k(b *testing.B) {
	r := largeReply(100_000)
	b.ReportAllocs()
	for b.Loop() {
		if t, err := parseTenant(r, testKey); err != nil || len(t.Addresses) != 100_000 {
			b.Fatal(err)
		}
	}
}

// The bound is on all that is allocated, so what is held at once is less.
func TestParsing100kAddressesStaysBelow100MB(t *testing.T) {
	r := largeReply(100_000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	got, err := parseTenant(r, testKey)
	runtime.ReadMemStats(&after) // all that was allocated, collected or not
	if err != nil || len(got.Addresses) != 100_000 {
		t.Fatal(err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 100<<20 {
		t.Errorf("%d MB were allocated", used>>20)
	}
}
