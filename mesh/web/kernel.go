package web

import (
	"fmt"
	"sort"
)

// split splits sorted entries into the two families.
func split(all []entry) (v4, v6 []entry) {
	n := sort.Search(len(all), func(i int) bool { return all[i].v6 })
	return all[:n], all[n:]
}

// appendAddress writes an entry; nft and ipset take single addresses without a length.
func appendAddress(b []byte, e entry) []byte {
	if p := e.prefix(); !p.IsSingleIP() {
		return p.AppendTo(b)
	}
	return e.prefix().Addr().AppendTo(b)
}

// nftHead creates the table if it is missing and empties its sets, in the one transaction that a file is to `nft -f`. It
// recreates the chain, so that its rules are there exactly once. Hook and priority are those of the agent's own table: they
// come before a packet costs a connection entry.
const nftHead = `# nft -f
add table inet banmesh_feed
add set inet banmesh_feed banned4 { type ipv4_addr; flags interval; }
add set inet banmesh_feed banned6 { type ipv6_addr; flags interval; }
add chain inet banmesh_feed prerouting { type filter hook prerouting priority raw; policy accept; }
flush chain inet banmesh_feed prerouting
add rule inet banmesh_feed prerouting ip saddr @banned4 drop
add rule inet banmesh_feed prerouting ip6 saddr @banned6 drop
flush set inet banmesh_feed banned4
flush set inet banmesh_feed banned6
`

// appendNft writes a file for `nft -f`, which loads all of it or, on an error, nothing. The entries must not overlap.
func appendNft(b []byte, all []entry) []byte {
	b = append(b, nftHead...)
	v4, v6 := split(all)
	for i, some := range [][]entry{v4, v6} {
		if len(some) == 0 { // nft refuses an empty list
			continue
		}
		b = fmt.Appendf(b, "add element inet banmesh_feed banned%d {\n", 4+2*i)
		for _, e := range some {
			b = append(appendAddress(b, e), ",\n"...)
		}
		b = append(b, "}\n"...)
	}
	return b
}

// appendIPSet writes input for `ipset -exist restore` into banmesh4 and banmesh6: each set is filled beside the one in use,
// and then swapped with it. The bound is constant, because -exist refuses a set whose bound differs from the existing one's.
func appendIPSet(b []byte, all []entry) []byte {
	v4, v6 := split(all)
	for _, f := range []struct {
		set, family string
		all         []entry
	}{{"banmesh4", "inet", v4}, {"banmesh6", "inet6", v6}} {
		for _, set := range []string{f.set, f.set + "-new"} {
			b = fmt.Appendf(b, "create %s hash:net family %s maxelem 4194304\n", set, f.family)
		}
		b = fmt.Appendf(b, "flush %s-new\n", f.set)
		for _, e := range f.all {
			b = append(b, "add "...)
			b = append(b, f.set...)
			b = append(b, "-new "...)
			b = append(appendAddress(b, e), '\n')
		}
		b = fmt.Appendf(b, "swap %s-new %s\ndestroy %s-new\n", f.set, f.set, f.set)
	}
	return b
}
