package mesh

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
)

// interfaceAddrs are the addresses of this machine's interfaces.
func interfaceAddrs() []netip.Addr {
	ifaddrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, a := range ifaddrs {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, addr)
			}
		}
	}
	return out
}

// defaultGateways reads the kernel's routing tables (proc_net(5)).
// A banned gateway would cut this router off from everything at once; hence they are exempt by themselves.
func defaultGateways() []netip.Addr {
	var out []netip.Addr
	for _, table := range []struct {
		path  string
		parse func(io.Reader) []netip.Addr
	}{
		{"/proc/net/route", parseRoutes4},
		{"/proc/net/ipv6_route", parseRoutes6},
	} {
		f, err := os.Open(table.path)
		if err != nil {
			continue
		}
		out = append(out, table.parse(f)...)
		f.Close()
	}
	return out
}

// parseRoutes4 takes the gateways of routes to 0.0.0.0/0: columns Iface,
// Destination, Gateway, …, Mask (8th), in hex of the machine's byte order.
func parseRoutes4(r io.Reader) []netip.Addr {
	var out []netip.Addr
	for lines := bufio.NewScanner(r); lines.Scan(); {
		col := strings.Fields(lines.Text())
		if len(col) < 8 || col[1] != "00000000" || col[7] != "00000000" {
			continue
		}
		raw, err := hex.DecodeString(col[2])
		if err != nil || len(raw) != 4 {
			continue
		}
		var ip [4]byte
		// The file prints the address as a number of the machine, so that its bytes are swapped on most.
		binary.NativeEndian.PutUint32(ip[:], binary.BigEndian.Uint32(raw))
		if addr := netip.AddrFrom4(ip); !addr.IsUnspecified() {
			out = append(out, addr)
		}
	}
	return out
}

// parseRoutes6 takes the next hops of routes to ::/0: columns destination,
// its prefix length, source, its length, next hop, all hex.
func parseRoutes6(r io.Reader) []netip.Addr {
	var out []netip.Addr
	for lines := bufio.NewScanner(r); lines.Scan(); {
		col := strings.Fields(lines.Text())
		if len(col) < 5 || strings.Trim(col[0], "0") != "" || col[1] != "00" {
			continue
		}
		raw, err := hex.DecodeString(col[4])
		if err != nil || len(raw) != 16 {
			continue
		}
		if addr := netip.AddrFrom16([16]byte(raw)); !addr.IsUnspecified() {
			out = append(out, addr)
		}
	}
	return out
}
