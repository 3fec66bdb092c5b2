// Package neverban keeps what a router needs from being banned: its own addresses, its default gateways, its conductors, and
// what the configuration adds. On the router itself this holds whatever any record says; the other members learn it from a
// record, a lease that the router renews while it lives.
package neverban

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
	lease = 24 * time.Hour // how long the others spare a router that is silent
	renew = time.Hour      // often enough that addresses which change without notice are published soon

	most = 256 // prefixes that a lease holds; the store refuses more
)

// Config is what a List needs of the agent.
type Config struct {
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

// List is what this router needs.
type List struct {
	cfg  Config
	wake chan struct{}

	mu         sync.Mutex
	configured []config.Prefix
	found      map[string][]netip.Addr // by name: what conductors had when they were last looked up
}

// New makes the list. Nothing is protected before Protect.
func New(c Config) *List {
	return &List{
		cfg: c, configured: c.Configured,
		wake: make(chan struct{}, 1), found: make(map[string][]netip.Addr),
	}
}

// Run renews the lease before it runs out, and when something changes the list.
// Protecting comes before publishing: this router is safe even while the store cannot be written.
func (l *List) Run(ctx context.Context) error {
	for {
		prefixes := l.Protect(ctx)
		wait := renew
		if err := l.cfg.Set.PublishNeverBan(ctx, prefixes, store.At(l.cfg.Now().Add(lease))); err != nil {
			l.cfg.Logger.Warn("publish the never-ban list", "error", err)
			// The lease lasts for a day, so that hundreds of attempts remain.
			wait = time.Minute
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-l.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Configure takes over never_ban of a new configuration.
func (l *List) Configure(prefixes []config.Prefix) {
	l.mu.Lock()
	l.configured = prefixes
	l.mu.Unlock()
	l.Renew()
}

// Renew has the list made and published anew soon. It never waits: gossip calls it from where it receives.
func (l *List) Renew() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Protect has the store spare what this router needs, on this router and whatever any record says, and returns what that is.
// With a context that has ended no name is looked up: at the start there is no time to wait for a resolver.
func (l *List) Protect(ctx context.Context) []netip.Prefix {
	prefixes := l.exempt(ctx)
	l.cfg.Set.Protect(prefixes)
	return prefixes
}

// exempt is what this router needs, and while a conductor's name was not looked up in
// this run yet, also the single addresses of this router's last lease: the conductor's
// are among them, from the run before.
func (l *List) exempt(ctx context.Context) []netip.Prefix {
	missed := false
	prefixes := l.needed(ctx, func(ctx context.Context, host string) ([]netip.Addr, error) {
		addrs, err := l.lastFound(ctx, host)
		missed = missed || err != nil || len(addrs) == 0
		return addrs, err
	})
	if !missed {
		return prefixes
	}
	for _, last := range l.cfg.Set.NeverBans() {
		if last.Origin == l.cfg.Name && last.Prefix.IsSingleIP() && len(prefixes) < most {
			prefixes = append(prefixes, last.Prefix)
		}
	}
	return prefixset.Sort(prefixes)
}

// needed is what no router of the mesh may ban for this one's sake: its own
// addresses, its default gateways, its conductors, and what the configuration
// adds. What the machine does not tell is left out: the list is published anew
// each hour.
func (l *List) needed(ctx context.Context, lookup gossip.Lookup) []netip.Prefix {
	var addrs []netip.Addr
	advertised, _ := netip.ParseAddrPort(l.cfg.Advertised())
	addrs = append(addrs, advertised.Addr())
	addrs = append(addrs, l.cfg.Addresses()...)
	for _, conductor := range l.cfg.Conductors {
		addrs = append(addrs, Resolve(ctx, conductor, lookup)...)
	}
	var prefixes []netip.Prefix
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsLinkLocalUnicast() {
			continue // built in
		}
		prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.configured {
		prefixes = append(prefixes, p.Prefix)
	}
	return prefixset.Sort(prefixes)
}

// lastFound looks up a name, and answers as before where that fails: a conductor
// does not lose its exemption with the name server.
func (l *List) lastFound(ctx context.Context, host string) ([]netip.Addr, error) {
	addrs, err := l.cfg.Lookup(ctx, host)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || len(addrs) == 0 {
		if last := l.found[host]; len(last) > 0 {
			return last, nil
		}
		return addrs, err
	}
	l.found[host] = addrs
	return addrs, nil
}

// Resolve returns the addresses of HOST:PORT or of a URL's host, none while the name does not resolve.
func Resolve(ctx context.Context, conductor string, lookup gossip.Lookup) []netip.Addr {
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
