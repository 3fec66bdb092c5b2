package mesh

import (
	"context"
	"log/slog"
	"net/netip"

	"banmesh/mesh/conductor"
	"banmesh/mesh/config"
	"banmesh/mesh/neverban"
)

// ConductorProbe looks at the conductor as an agent with this configuration would,
// without changing anything.
type ConductorProbe struct{ conductor *conductor.Conductor }

// NewProbe returns a Probe, nil where no conductor is configured. Close it.
func NewProbe(k *config.Commit, log *slog.Logger) (*ConductorProbe, error) {
	c, err := newConductor(k, realConductor, log)
	if c == nil || err != nil {
		return nil, err
	}
	return &ConductorProbe{c}, nil
}

// Read reads the tenant from running. Its errors are those that package conductor
// knows: ErrLogin, ErrHostKey, ErrUnreachable, ErrWideOpen …
func (p *ConductorProbe) Read(ctx context.Context) (conductor.Running, error) {
	return p.conductor.Read(ctx)
}

// Denied returns the services that deny the tenant. Its errors are those of Read.
func (p *ConductorProbe) Denied(ctx context.Context) ([]string, error) {
	return p.conductor.Denied(ctx)
}

// Close ends the sessions.
func (p *ConductorProbe) Close() error { return p.conductor.Close() }

// Place is an address that must stay reachable, and what it is.
type Place struct {
	Addr netip.Addr
	What string // as in: own address
}

// Places are the addresses of this router that never-ban must cover: its own,
// its default gateways, its conductors. What is built in is left out.
func Places(ctx context.Context, cfg *config.Config) []Place {
	var out []Place
	seen := make(map[netip.Addr]bool)
	add := func(what string, addrs []netip.Addr) {
		for _, a := range addrs {
			a = a.Unmap().WithZone("")
			if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || seen[a] {
				continue
			}
			seen[a] = true
			out = append(out, Place{a, what})
		}
	}
	add("own address", interfaceAddrs())
	add("default gateway", defaultGateways())
	// Looked up now: a check that runs without an agent has no earlier answer to fall back on.
	for _, conductor := range cfg.Commit.Conductors {
		add("conductor", neverban.Resolve(ctx, conductor, lookup))
	}
	return out
}
