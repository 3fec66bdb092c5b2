package mesh

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"banmesh/mesh/conductor/prefixset"
	"banmesh/mesh/config"
	"banmesh/mesh/gossip"
	"banmesh/store"
)

const (
	// neverBanLease and neverBanRenew keep what a router needs for itself from
	// being banned for a day after it was last heard of.
	neverBanLease = 24 * time.Hour
	neverBanRenew = time.Hour
)

// neverBanConfig is what a neverBan needs of the agent.
type neverBanConfig struct {
	Name       string // this router's
	Conductors []string
	Configured []config.Prefix // never_ban, until it is configured anew
	Addresses  func() []netip.Addr
	Lookup     gossip.Lookup
	Advertised func() string // where the peers reach this router, IP:port
	Set        *store.Store
	Now        func() time.Time
	Logger     *slog.Logger
}

// neverBan keeps what this router needs from being banned, on it and, by a lease,
// on every other one.
type neverBan struct {
	neverBanConfig
	wake chan struct{}

	mu         sync.Mutex
	configured []config.Prefix
	found      map[string][]netip.Addr // by name: what conductors had when they were last looked up
}

func newNeverBan(c neverBanConfig) *neverBan {
	return &neverBan{
		neverBanConfig: c, configured: c.Configured,
		wake: make(chan struct{}, 1), found: make(map[string][]netip.Addr),
	}
}

// run renews the lease before it runs out, and when something changes the list.
// Protect comes before Publish: this router is safe even while the store cannot be written.
func (n *neverBan) run(ctx context.Context) error {
	for {
		prefixes := n.protect(ctx)
		wait := neverBanRenew
		if err := n.Set.PublishNeverBan(ctx, prefixes, store.At(n.Now().Add(neverBanLease))); err != nil {
			n.Logger.Warn("publish the never-ban list", "error", err)
			// The lease lasts for a day, so that hundreds of attempts remain.
			wait = time.Minute
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-n.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// configure takes over never_ban of a new configuration.
func (n *neverBan) configure(prefixes []config.Prefix) {
	n.mu.Lock()
	n.configured = prefixes
	n.mu.Unlock()
	n.renew()
}

// renew has the list made and published anew soon.
func (n *neverBan) renew() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// protect sees to it that nothing that this router needs is ever blocked on it,
// whatever any record says, and returns what that is.
func (n *neverBan) protect(ctx context.Context) []netip.Prefix {
	prefixes := n.exempt(ctx)
	n.Set.Protect(prefixes)
	return prefixes
}

// exempt is what this router needs, and while a conductor's name was not looked up in
// this run yet, also the single addresses of this router's last lease: the conductor's
// are among them, from the run before.
func (n *neverBan) exempt(ctx context.Context) []netip.Prefix {
	missed := false
	prefixes := n.needed(ctx, func(ctx context.Context, host string) ([]netip.Addr, error) {
		addrs, err := n.lastFound(ctx, host)
		missed = missed || err != nil || len(addrs) == 0
		return addrs, err
	})
	if !missed {
		return prefixes
	}
	const most = 256 // a lease holds no more
	for _, last := range n.Set.NeverBans() {
		if last.Origin == n.Name && last.Prefix.IsSingleIP() && len(prefixes) < most {
			prefixes = append(prefixes, last.Prefix)
		}
	}
	return prefixset.Sort(prefixes)
}

// needed is what no router of the mesh may ban for this one's sake: its own
// addresses, its default gateways, its conductors, and what the configuration
// adds. What the machine does not tell is left out: the list is published anew
// each hour.
func (n *neverBan) needed(ctx context.Context, lookup gossip.Lookup) []netip.Prefix {
	var addrs []netip.Addr
	advertised, _ := netip.ParseAddrPort(n.Advertised())
	addrs = append(addrs, advertised.Addr())
	addrs = append(addrs, n.Addresses()...)
	for _, conductor := range n.Conductors {
		addrs = append(addrs, resolve(ctx, conductor, lookup)...)
	}
	var prefixes []netip.Prefix
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsLinkLocalUnicast() {
			continue // built in
		}
		prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.configured {
		prefixes = append(prefixes, p.Prefix)
	}
	return prefixset.Sort(prefixes)
}

// lastFound looks up a name, and answers as before where that fails: a conductor
// does not lose its exemption with the name server.
func (n *neverBan) lastFound(ctx context.Context, host string) ([]netip.Addr, error) {
	addrs, err := n.Lookup(ctx, host)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil || len(addrs) == 0 {
		if last := n.found[host]; len(last) > 0 {
			return last, nil
		}
		return addrs, err
	}
	n.found[host] = addrs
	return addrs, nil
}

// noLookups is a context under which no name is looked up: before the first
// commit and the first change of the kernel's set there is no time to wait for
// one.
func noLookups() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
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
