// Package metrics exposes the agent to Prometheus.
//
// Most numbers are read at each scrape: Source gives a Sample, and all of one answer is of the same moment. Two histograms
// and the counts of commits are filled as things happen: the agent calls Changed for changes of the set and Committed for
// events at the conductor.
//
// The package starts no goroutines. Scrapes run in those of their requests, several at once, so Source must allow that. There
// are no locks beside those of the Prometheus client.
package metrics

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Config configures Metrics.
type Config struct {
	Source  Source
	Name    string // of this router, whose own bans do not travel to it
	Version string // of the program, for build_info
	Commit  string // of the program; may be ""

	// Now returns the mesh's time, corrected to the members' median: the agent's clock.now. Nil is time.Now.
	Now func() time.Time

	// Settled reports whether this router has heard enough of the mesh that arriving bans are news: gossip.Mesh.Settled. Nil
	// means always. Changed calls it.
	Settled func() bool

	Logger *slog.Logger // logs errors during a scrape; may be nil
}

// Metrics is the handler of /metrics. It has its own registry, so that two agents can run in one process.
//
// The agent calls Changed from its store's change hook and Committed from the
// committer's OnEvent.
type Metrics struct {
	registry *prometheus.Registry
	handler  http.Handler
	arrivals *arrivals
	commits  *commits
}

// New returns Metrics with nothing observed yet.
func New(c Config) (*Metrics, error) {
	if c.Source == nil {
		return nil, errors.New("metrics: no source")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Settled == nil {
		c.Settled = func() bool { return true }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Metrics{registry: prometheus.NewRegistry(), arrivals: newArrivals(c.Name, c.Now, c.Settled), commits: newCommits()}
	for _, collector := range []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildInfo(c.Version, c.Commit),
		newSampler(c.Source),
		m.arrivals, m.commits,
	} {
		if err := m.registry.Register(collector); err != nil {
			return nil, err
		}
	}
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(c.Logger.Handler(), slog.LevelWarn),
		MaxRequestsInFlight: maxScrapes,
	})
	return m, nil
}

// maxScrapes is how many scrapes are answered at once; others get a 503.
const maxScrapes = 4

// ServeHTTP answers a scrape.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }

func buildInfo(version, commit string) prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "banmesh_build_info",
		Help:        "Always 1; the labels say which program this is.",
		ConstLabels: prometheus.Labels{"version": version, "commit": commit},
	})
	info.Set(1)
	return info
}
