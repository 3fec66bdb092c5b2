package mesh

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"banmesh/mesh/conductor/prefixset"
	"banmesh/mesh/config"
	"banmesh/mesh/gossip"
)

// ownNeverBan is what no router of the mesh may ban for this one's sake: its
// own addresses, its default gateways, its conductors, and what the
// configuration adds. What the machine does not tell is left out: the list is
// published anew each hour.
func ownNeverBan(ctx context.Context, cfg *config.Config, world *Doors, advertised netip.Addr) []netip.Prefix {
	var addrs []netip.Addr
	addrs = append(addrs, advertised)
	addrs = append(addrs, world.Addresses()...)
	for _, conductor := range cfg.Commit.Conductors {
		addrs = append(addrs, resolve(ctx, conductor, world.Lookup)...)
	}
	var prefixes []netip.Prefix
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsLinkLocalUnicast() {
			continue // built in
		}
		prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
	for _, p := range cfg.NeverBan {
		prefixes = append(prefixes, p.Prefix)
	}
	return prefixset.Sort(prefixes)
}

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

// resolve gives the addresses of HOST:PORT or of an URL's host; none while the
// name does not resolve.
func resolve(ctx context.Context, conductor string, lookup gossip.Lookup) []netip.Addr {
	host, _, err := net.SplitHostPort(conductor)
	if u, urlErr := url.Parse(conductor); urlErr == nil && u.Host != "" {
		host, err = u.Hostname(), nil
	}
	if err != nil {
		return nil
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}
	}
	addrs, err := lookup(ctx, host)
	if err != nil {
		return nil
	}
	return addrs
}

// defaultGateways reads the kernel's routing tables (proc_net(5)).
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
