package gossip

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/memberlist"

	"banmesh/internal/excerpt"
)

// The address that this member advertises, if the configuration leaves it open: the source address of the route to the members
// it joins, otherwise of the default route, otherwise the most likely one of an interface. It is looked up again while no other
// member is alive, and when the address has left the host.

// guessesAddress says whether this member has to find its address itself.
func (m *Mesh) guessesAddress() bool {
	return m.cfg.Transport == nil && m.cfg.Advertise == "" && m.cfg.Bind.Addr().IsUnspecified()
}

// findAddress finds the address towards those that this member joins.
func (m *Mesh) findAddress(ctx context.Context) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, m.tune.NameCheck)
	defer cancel()
	var targets []netip.AddrPort
	addrs, _ := m.known.first(ctx, maxNameChecks)
	for _, a := range addrs {
		if ap, err := netip.ParseAddrPort(a); err == nil {
			targets = append(targets, ap)
		}
	}
	a, routed, err := sourceAddress(targets, m.cfg.Bind.Addr().Is4())
	if err == nil {
		m.routed.Store(routed)
	}
	return a, err
}

// Documentation addresses (RFC 5737, RFC 3849): the route to them is the default route. Nothing is sent.
var faraway = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:9"), netip.MustParseAddrPort("[2001:db8::1]:9")}

// sourceAddress finds the address from which the targets are reached. routed says that it comes from a route and not from the
// order of the interfaces. A socket bound to 0.0.0.0 takes IPv6 as well, as Go opens it, so there prefer4 only puts the targets
// of IPv4 first: a host that has IPv6 alone needs no other configuration.
func sourceAddress(targets []netip.AddrPort, prefer4 bool) (own netip.Addr, routed bool, err error) {
	if prefer4 {
		targets = slices.Clone(targets)
		slices.SortStableFunc(targets, func(a, b netip.AddrPort) int { return a.Addr().Unmap().BitLen() - b.Addr().Unmap().BitLen() })
	}
	for _, t := range append(targets, faraway...) {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(t)) // looks up the route and sends nothing
		if err != nil {
			continue
		}
		a := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone("")
		_ = c.Close()
		if a.IsValid() && !a.IsUnspecified() && !a.IsLinkLocalUnicast() && (!a.IsLoopback() || t.Addr().IsLoopback()) {
			return a, true, nil
		}
	}
	own, err = reachable()
	return own, false, err
}

// instance is the transport that one memberlist gets. Several follow one another on the same wire, so shutting down an instance
// leaves the wire open for the next.
type instance struct{ *wire }

func (instance) Shutdown() error { return nil }

// readdress starts a new memberlist with another address. The new one knows nobody, so all others count as failed until it has
// met them again. It gives way to Leave and Shutdown: Shutdown waits for the loop that calls readdress, so readdress must not
// wait for them.
func (m *Mesh) readdress(a netip.Addr) error {
	if !m.leaveMu.TryLock() {
		return nil
	}
	defer m.leaveMu.Unlock()
	if m.left.Load() || m.closed.Load() {
		return nil
	}
	was, err := netip.ParseAddrPort(m.addr())
	if err != nil {
		return err
	}
	// The old memberlist ends before the new one starts, because both would take packets off the one wire. If no new one
	// starts, the next round tries again.
	m.lists.Add(1)
	if old := m.list.Swap(nil); old != nil {
		if err := old.Shutdown(); err != nil {
			return err
		}
		old.NumMembers() // returns only once none of its callbacks holds the node lock
	}
	for _, t := range m.table.others() {
		m.memberDown(t.name)
	}
	list, err := memberlist.Create(m.listConfig(a.String(), int(was.Port())))
	if err != nil {
		return err
	}
	m.setAddr(netip.AddrPortFrom(a, was.Port()))
	m.list.Store(list)
	m.log.Warn("the address that others are told has changed", "from", was, "to", m.addr())
	m.event(MemberUpdated, Member{Name: m.cfg.Name, Addr: m.addr(), Self: true})
	return nil
}

// lookAtAddress makes the advertised address follow the host's. It is called by one goroutine.
func (m *Mesh) lookAtAddress() {
	if !m.guessesAddress() || m.left.Load() {
		return
	}
	own, err := netip.ParseAddrPort(m.addr())
	if err != nil {
		return
	}
	if len(m.table.others()) > 0 && (own.Addr().IsLoopback() || slices.Contains(hostAddrs(), own.Addr())) {
		return
	}
	a, err := m.findAddress(m.ctx)
	if err != nil || a == own.Addr() && m.list.Load() != nil || a.IsLoopback() && !own.Addr().IsLoopback() {
		return
	}
	if err := m.readdress(a); err != nil {
		m.log.Error("begin anew with another address", "addr", a, "error", err)
	}
}

// hostAddrs returns the addresses of this host, without loopback.
func hostAddrs() []netip.Addr {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, n := range list {
		if p, err := netip.ParsePrefix(n.String()); err == nil && !p.Addr().IsLoopback() {
			out = append(out, p.Addr().Unmap().WithZone(""))
		}
	}
	return out
}

// Doubt is something odd about the addresses of the members, and what helps.
type Doubt struct{ What, Fix string }

func (d Doubt) String() string { return d.What + ": " + d.Fix }

// Doubts lists what is odd about the addresses of the members.
func (m *Mesh) Doubts() []Doubt {
	own, err := netip.ParseAddrPort(m.addr())
	if err != nil || m.cfg.Transport != nil {
		return nil
	}
	return doubts(own, addressing{
		loopback: m.cfg.Bind.Addr().IsLoopback(), advertised: m.cfg.Advertise != "", routed: !m.guessesAddress() || m.routed.Load(), here: hostAddrs(),
	}, m.table.members(0))
}

// addressing records how a member came by its address.
type addressing struct {
	loopback   bool         // it is bound to loopback
	advertised bool         // the configuration sets the advertised address
	routed     bool         // it comes from a route or from the configuration
	here       []netip.Addr // the addresses of this host
}

// doubts says what makes it doubtful that members reach each other at the addresses they advertise, each with
// what to do about it. They come sorted, because a warning that changed its place with each look would seem
// to come and go.
func doubts(own netip.AddrPort, a addressing, members []Member) (out []Doubt) {
	doubt := func(fix, what string, args ...any) { out = append(out, Doubt{fmt.Sprintf(what, args...), fix}) }
	const advertise = "set gossip.advertise"
	switch {
	case a.loopback:
	case own.Addr().IsLoopback():
		doubt(advertise, "the others are told %s as this router's address, which none of them reaches, as no other address was found", own)
	case !a.advertised && !slices.Contains(a.here, own.Addr()):
		doubt("give this host that address again, or set gossip.bind", "the others are told %s as this router's address, but this host no longer has it, so no traffic passes either way", own)
	case !a.routed && len(likely(a.here, own.Addr())) > 1:
		doubt(advertise+", or `join` one of the others", "the others are told %s as this router's address, which is a guess among %s, as no route says which one they reach", own, list(likely(a.here, own.Addr())))
	}
	at := make(map[string][]string)
	for _, p := range members {
		if p.State == Left {
			continue
		}
		at[p.Addr] = append(at[p.Addr], p.Name)
		switch theirs, err := netip.ParseAddrPort(p.Addr); {
		case err != nil:
		case p.Addr == own.String():
			doubt(fmt.Sprintf("%s there, and here if %s is not the one that others reach", advertise, own.Addr()), "%s says that it is at %s, which is this router's address", p.Name, p.Addr)
		case theirs.Port() == own.Port() && slices.Contains(a.here, theirs.Addr()):
			doubt(advertise+" there", "%s says that it is at %s, an address that this host has too (this router is at %s)", p.Name, p.Addr, own)
		}
	}
	for addr, names := range at {
		if slices.Sort(names); len(names) > 1 {
			doubt(advertise+" on each, or `banmesh leave` where one is gone for good", "%s all say that they are at %s", excerpt.Names(names), addr)
		}
	}
	slices.SortFunc(out, func(a, b Doubt) int { return strings.Compare(a.What, b.What) })
	return out
}

// likely returns the addresses that might just as well be this router's: those of its own family that are not link-local.
func likely(here []netip.Addr, own netip.Addr) (out []netip.Addr) {
	for _, a := range here {
		if a.Is4() == own.Is4() && !a.IsLinkLocalUnicast() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

func list(addrs []netip.Addr) string {
	names := make([]string, len(addrs))
	for i, a := range addrs {
		names[i] = a.String()
	}
	return excerpt.Names(names)
}
