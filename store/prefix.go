package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math/bits"
	"net/netip"
)

// pkey is a prefix without pointers: the address as 128 bits, with IPv4 mapped into ::ffff:0:0/96, and the length counted in
// those 128 bits. Every way in turns an IPv4-mapped IPv6 prefix into IPv4, so the two families cannot be confused.
type pkey struct {
	hi, lo uint64
	bits   uint8
}

// noPrefix is the key of records without prefix.
var noPrefix = pkey{bits: 255}

func (k pkey) is4() bool { return k.hi == 0 && k.lo>>32 == 0xffff && k.bits >= 96 && k.bits <= 128 }

// prefix returns an IPv4 prefix for a mapped one: within the store IPv4 lives in ::ffff:0:0/96, so
// that one kind of key does for both families.
func (k pkey) prefix() netip.Prefix {
	if k == noPrefix {
		return netip.Prefix{}
	}
	var a [16]byte
	binary.BigEndian.PutUint64(a[:8], k.hi)
	binary.BigEndian.PutUint64(a[8:], k.lo)
	if k.is4() {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(a[12:])), int(k.bits)-96)
	}
	return netip.PrefixFrom(netip.AddrFrom16(a), int(k.bits))
}

// masked cuts k to a shorter length.
func (k pkey) masked(n uint8) pkey {
	switch {
	case n == 0:
		k.hi, k.lo = 0, 0
	case n < 64:
		k.hi, k.lo = k.hi>>(64-n)<<(64-n), 0
	case n == 64:
		k.lo = 0
	case n < 128:
		k.lo = k.lo >> (128 - n) << (128 - n)
	}
	k.bits = n
	return k
}

// covers reports whether o lies within k or equals it, and both are of one family.
func (k pkey) covers(o pkey) bool {
	return k.bits <= o.bits && k.is4() == o.is4() && o.bits != noPrefix.bits && o.masked(k.bits) == k
}

// length is the prefix length in its own family.
func (k pkey) length() int {
	if k.is4() {
		return int(k.bits) - 96
	}
	return int(k.bits)
}

func keyOfAddr(a netip.Addr) pkey {
	b := a.As16()
	return pkey{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]), 128}
}

var (
	errNoPrefix = errors.New("not an address or prefix")
	errHostBits = errors.New("has bits set beyond its length")
	errAll      = errors.New("covers every address")
)

// keyOf checks a prefix and turns an IPv4-mapped one into IPv4. (A netip.Prefix has no zone.) It never accepts a prefix that
// covers its whole family.
func keyOf(p netip.Prefix) (pkey, error) {
	switch {
	case !p.IsValid():
		return pkey{}, errNoPrefix
	case p != p.Masked():
		return pkey{}, errHostBits
	}
	k := keyOfAddr(p.Addr())
	k.bits = uint8(p.Bits())
	if p.Addr().Is4() {
		k.bits += 96
	}
	if k.bits == 0 || k.bits == 96 && k.is4() {
		return pkey{}, errAll
	}
	return k, nil
}

// appendPrefix writes k as binary: 4 or 16 bytes of address and the length, nothing for noPrefix.
func appendPrefix(b []byte, k pkey) []byte {
	if k == noPrefix {
		return append(b, 0xc4, 0)
	}
	if k.is4() {
		b = append(b, 0xc4, 5)
		b = binary.BigEndian.AppendUint32(b, uint32(k.lo))
		return append(b, k.bits-96)
	}
	b = append(b, 0xc4, 17)
	b = binary.BigEndian.AppendUint64(b, k.hi)
	b = binary.BigEndian.AppendUint64(b, k.lo)
	return append(b, k.bits)
}

// prefix reads what appendPrefix wrote. It refuses encodings that are not canonical.
func (r *reader) prefix(none bool) pkey {
	p := r.bytes(17)
	if !r.ok() {
		return noPrefix
	}
	var k pkey
	switch {
	case len(p) == 0 && none:
		return noPrefix
	case len(p) == 5 && p[4] <= 32:
		k = pkey{0, 0xffff<<32 | uint64(binary.BigEndian.Uint32(p)), p[4] + 96}
		if p[4] == 0 {
			r.fail("prefix covers everything")
		}
	case len(p) == 17 && p[16] <= 128:
		k = pkey{binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:]), p[16]}
		if p[16] == 0 {
			r.fail("prefix covers everything")
		}
		if k.is4() {
			r.fail("prefix is IPv4-mapped")
		}
	default:
		r.fail("not a prefix")
		return noPrefix
	}
	if k.masked(k.bits) != k {
		r.fail("prefix has host bits")
	}
	return k
}

// hash mixes k with a seed that peers do not know, so that they cannot choose prefixes that collide in the table.
func (k pkey) hash(seed uint64) uint64 {
	h1, l1 := bits.Mul64(k.hi^seed, 0x9e3779b97f4a7c15^seed>>1)
	h2, l2 := bits.Mul64(k.lo^h1^l1, 0xd6e8feb86659fd93)
	h3, l3 := bits.Mul64(h2^l2^uint64(k.bits)^seed, 0xa0761d6478bd642f)
	return h3 ^ l3
}

// compare orders prefixes as netip.Prefix.Compare does: family, then address, then length.
func (k pkey) compare(o pkey) int {
	if a, b := k.is4(), o.is4(); a != b {
		if a {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(k.hi, o.hi), cmp.Compare(k.lo, o.lo), cmp.Compare(k.bits, o.bits))
}
