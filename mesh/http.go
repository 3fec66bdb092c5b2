package mesh

import (
	"context"
	"net"
	"os"
	"time"

	"banmesh/mesh/commit"
	"banmesh/mesh/config"
	"banmesh/mesh/events"
	"banmesh/mesh/gossip"
	"banmesh/mesh/metrics"
	"banmesh/mesh/web"
	"banmesh/mesh/web/page"
	"banmesh/store"
)

// watchers are those that only look on: who reads events, and metrics, feeds and the
// page, which are nil where http.listen is empty.
type watchers struct {
	events   events.Hub
	metrics  *metrics.Metrics
	page     *page.Page
	web      *web.Server
	listener net.Listener
}

// changed is told of every change of the set. It does not block.
func (w *watchers) changed(c store.Change, now func() time.Time) {
	if w.web != nil {
		w.metrics.Changed(c)
		w.web.Changed(c)
	}
	// Making the events costs more than publishing them, and usually nobody looks.
	if w.events.Watched() {
		w.events.Publish(storeEvents(c, now())...)
	}
}

// committed is told of what happened at the conductor.
func (w *watchers) committed(e commit.Event) {
	if w.metrics != nil {
		w.metrics.Committed(e)
	}
}

// TLSFiles are those of the listener's certificate.
func TLSFiles(h *config.HTTP) web.TLSFiles {
	return web.TLSFiles{Cert: h.CertFile, Key: h.KeyFile, ClientCA: h.ClientCAFile}
}

// serveHTTP answers until ctx ends. Bans are shared without it: its failure is
// logged and does not stop the agent.
func (a *Agent) serveHTTP(ctx context.Context) error {
	if err := a.watchers.web.Serve(ctx, a.watchers.listener); err != nil {
		a.log.Error("the HTTP listener has stopped", "addr", a.HTTPAddr(), "error", err)
	}
	return nil
}

// HTTPAddr is where metrics, feeds and the page are, IP:port; "" where they are
// not configured.
func (a *Agent) HTTPAddr() string {
	if a.watchers.listener == nil {
		return ""
	}
	return a.watchers.listener.Addr().String()
}

// settledOrWhy keeps /readyz and the feeds of an agent that has just started from showing an empty set as the
// truth.
func (a *Agent) settledOrWhy() error {
	if !a.mesh.Settled() {
		return errUnsettled
	}
	return nil
}

// sampled is the agent in numbers.
type sampled struct{ *Agent }

var _ metrics.Source = sampled{}

// Sample collects everything at one moment, for one scrape; none of it waits for the conductor or the disk's
// writer.
func (a sampled) Sample() metrics.Sample {
	lead := a.lead.elector.Status()
	frozen, _ := a.store.Frozen()
	offset, _ := a.mesh.Offset()
	s := metrics.Sample{
		InSync: a.mesh.InSync(), Settled: a.mesh.Settled(), Skew: -offset,
		Counts: a.store.Counts(), Jails: a.store.JailCounts(), Frozen: frozen, Blocked: len(a.store.Blocked()), Gossip: a.mesh.Stats(),
		Leader: metrics.Leader{Known: lead.Leader != "", Self: lead.Self, Eligible: lead.Eligible, Term: lead.Term},
		// LastStatus: a scrape must not work out a plan over a million bans.
		Commit: a.lead.statusBy((*commit.Committer).LastStatus),
		Store:  metrics.Store{Healthy: a.store.Health() == nil},
	}
	s.Spooled, s.Warnings = a.waiting.calls(), len(a.statusBy((*commit.Committer).LastStatus).Warnings)
	if file, err := os.Stat(a.cfg.StorePath()); err == nil {
		s.Store.Bytes = file.Size()
	}
	if a.enforcement != nil {
		s.Enforce = a.enforcement.Status()
	}
	members := a.mesh.Members()
	s.Members = countMembers(members)
	// Those that are gone have no say about agreement or clocks.
	for _, m := range members {
		if m.State != gossip.Alive {
			continue
		}
		if m.Self || m.Agrees == gossip.Agrees {
			s.MembersInSync++
		}
		s.MaxSkew = max(s.MaxSkew, m.Skew.Abs())
	}
	return s
}
