package store

import (
	"cmp"
	"net/netip"
	"slices"
)

// extent is how much a prefix covers: addresses for IPv4, /64s for IPv6. A narrower IPv6 prefix counts as one /64.
func extent(k pkey) uint64 {
	switch {
	case k.is4():
		return 1 << (128 - k.bits)
	case k.bits >= 64:
		return 1
	}
	return 1 << (64 - k.bits)
}

// publicExtent is how much of the public Internet a prefix covers, as extent; private space may be allowed freely.
func publicExtent(k pkey) uint64 {
	if private(k) {
		return 0
	}
	return extent(k)
}

// private reports whether the prefix lies in address space that is not routed on the Internet: RFC 1918, RFC 6598, RFC 4193.
func private(k pkey) bool {
	for _, p := range privateSpace {
		if p.covers(k) {
			return true
		}
	}
	return false
}

// privateSpace is 10/8, 172.16/12, 192.168/16, 100.64/10 and fc00::/7, IPv4 as mapped addresses
// (::ffff:0:0/96).
var privateSpace = [...]pkey{
	{0, 0xffff<<32 | 10<<24, 96 + 8}, {0, 0xffff<<32 | 172<<24 | 16<<16, 96 + 12}, {0, 0xffff<<32 | 192<<24 | 168<<16, 96 + 16},
	{0, 0xffff<<32 | 100<<24 | 64<<16, 96 + 10}, {0xfc << 56, 0, 7},
}

// room reports whether that much more fits beside what is used, if the total may be as much as one prefix of the given lengths;
// 0 is no limit.
func room(size uint64, k pkey, used [2]uint64, v4, v6 int) bool {
	length := v6 // as the bits of a pkey
	if k.is4() {
		length = v4
		if v4 > 0 {
			length += 96
		}
	}
	if length == 0 {
		return true
	}
	all := extent(pkey{lo: k.lo &^ 0xffffffff, hi: k.hi, bits: uint8(length)})
	return used[family(k)] <= all && size <= all-used[family(k)]
}

// One member's never-ban exempts at most as much of the public Internet as one prefix of the lease's lengths, in addition to
// prefixes no wider than the free ones. A router needs no more than that for honest use, and it is far from the whole address
// space.
const (
	leaseV4, leaseV6 = 8, 16
	freeV4, freeV6   = 24, 48
)

// UncountedNeverBans returns the never-ban prefixes of one member that do not count because together they are too wide.
func UncountedNeverBans(prefixes []netip.Prefix) (out []netip.Prefix) {
	kept := leaseHolds(prefixes)
	for _, p := range prefixes {
		if !slices.Contains(kept, p) {
			out = append(out, p)
		}
	}
	return out
}

// leaseHolds says which prefixes of a NeverBan count: the narrowest first, so that the addresses of the router that published
// it come before anything wide, and none that is wider than an honest one.
func leaseHolds(prefixes []netip.Prefix) (kept []netip.Prefix) {
	keys := make([]pkey, 0, len(prefixes))
	for _, p := range prefixes {
		if k, err := keyOf(p); err == nil && !tooWideToExempt(p) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b pkey) int { return cmp.Or(cmp.Compare(b.bits, a.bits), a.compare(b)) })
	var used [2]uint64
	for _, k := range slices.Compact(keys) {
		size := publicExtent(k)
		if k.is4() && k.length() >= freeV4 || !k.is4() && k.length() >= freeV6 {
			size = 0
		}
		if room(size, k, used, leaseV4, leaseV6) {
			used[family(k)] += size
			kept = append(kept, k.prefix())
		}
	}
	return kept
}

// unitBytes is the encoded size up to which a stored record counts as one unit.
const unitBytes = 256

// units is how much a record of that encoded size counts towards the storage limits: usually one. Large records count more, so
// that a few of them cannot take the memory of very many.
func units(encoded int) int { return 1 + (encoded-1)/unitBytes }
