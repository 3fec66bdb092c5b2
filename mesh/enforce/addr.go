package enforce

import (
	"cmp"
	"encoding/binary"
	"math"
	"net/netip"

	"banmesh/store"
)

// addr is an address as a number, without pointers: an Enforcer keeps so many that pointers would cost the garbage collector
// time. Its family is that of the list it stands in.
type addr struct{ hi, lo uint64 }

func (a addr) compare(b addr) int {
	return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo))
}

func (a addr) less(b addr) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

// next is the address after a; after the last one comes 0.
func (a addr) next() addr {
	if a.lo++; a.lo == 0 {
		a.hi++
	}
	return a
}

// prev is the address before a, which is not 0.
func (a addr) prev() addr {
	if a.lo == 0 {
		a.hi--
	}
	a.lo--
	return a
}

// family distinguishes the lists of IPv4 and IPv6.
type family int

const (
	v4 family = iota
	v6
	families
)

// addrOf keeps the family: the set has no IPv4-mapped addresses, and to a kernel they are IPv6.
func addrOf(ip netip.Addr) (family, addr) {
	if ip.Is4() {
		b := ip.As4()
		return v4, addr{0, uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := ip.As16()
	return v6, addr{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// in needs the family because an IPv4 address and the IPv6 one with the same low bits are the same addr.
func (a addr) in(f family) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	if f == v4 {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return netip.AddrFrom16(b)
}

// span is a range of addresses, both ends included, and until when they are banned.
type span struct {
	from, to addr
	until    store.Millis
}

func (s span) overlaps(o span) bool { return !s.to.less(o.from) && !o.to.less(s.from) }

// spanOf is the range of a prefix.
func spanOf(p netip.Prefix, until store.Millis) (family, span) {
	f, from := addrOf(p.Masked().Addr())
	host := 128 - p.Bits()
	if f == v4 {
		host = 32 - p.Bits()
	}
	to := from
	if host >= 64 {
		to.lo = math.MaxUint64
		to.hi |= 1<<(host-64) - 1
	} else {
		to.lo |= 1<<host - 1
	}
	return f, span{from, to, until}
}
