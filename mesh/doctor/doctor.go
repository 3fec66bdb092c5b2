package doctor

import (
	"context"
	"net"
	"net/netip"
	"time"

	"banmesh/mesh/conductor"
	"banmesh/mesh/control"
	"banmesh/mesh/fail2ban"
	"banmesh/mesh/login"
)

// agentReader is what the doctor asks of the local agent; *control.Client is one.
type agentReader interface {
	Status(ctx context.Context) (control.Status, error)
	Members(ctx context.Context) ([]control.Member, error)
	Why(ctx context.Context, p netip.Prefix) (control.Why, error)
}

// conductorReader is what the doctor looks at of the conductor.
type conductorReader interface {
	Read(ctx context.Context) (conductor.Running, error)
	Denied(ctx context.Context) ([]string, error)
}

// dialFunc opens a connection, as net.Dialer.DialContext does.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Place is an address that must stay reachable, and what it is.
type Place struct {
	Addr netip.Addr
	What string
}

// Patient is what is looked at. What is nil or empty is left out.
type Patient struct {
	Files []File // secrets and what else must be readable

	DataDir string                                  // of the agent
	free    func(dir string) (bytes int64, ok bool) // store.FreeSpace; nil asks it

	Agent agentReader
	dial  dialFunc
	Now   time.Time
	// Synchronized says whether the kernel's clock is kept by a time service;
	// known is false where that cannot be told.
	Synchronized func() (synchronized, known bool)

	Conductor  conductorReader
	Conductors []string // host:port or URL, as configured
	User       string
	KnownHosts string
	Tenant     string

	Fail2ban []fail2ban.Finding
	Logs     []fail2ban.LogSource

	Places []Place         // own addresses, gateways, conductors
	Logins []login.Session // who is logged in
	Shell  netip.Addr      // from where the one who asks is
}

// Examine looks at everything and returns what it found, in the order of a
// ban's way. It changes nothing. ctx bounds the whole.
func Examine(ctx context.Context, p Patient) []Finding {
	r := &report{}
	r.files(p.Files)
	var status *control.Status
	if p.Agent != nil {
		status = r.agent(ctx, p)
	}
	// Also without an agent: the kernel knows whether a time service keeps its clock.
	r.clock(p, status)
	if status != nil {
		r.store(status.Store, p.DataDir)
		r.disk(p.DataDir, p.free)
		r.places(ctx, p)
		r.commits(p.Now, status)
		r.enforcement(status.Enforce)
		r.unnotified(status)
		r.further(status)
	}
	if p.Conductor != nil {
		r.conductor(ctx, p)
	}
	// fail2ban has been examined by its own package, whose findings have the same form.
	r.findings = append(r.findings, p.Fail2ban...)
	r.logs(p.Now, p.Logs)
	return r.findings
}
