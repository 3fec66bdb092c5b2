package ipranges

import "net/netip"

// Host returns the addresses that the host with that address can use: the address itself, or its /64 for IPv6, where the
// smallest network that providers assign is one. Bounds per host must count by it: those per address would not bound anybody.
func Host(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // an address that is not valid has no prefix
	return p
}
