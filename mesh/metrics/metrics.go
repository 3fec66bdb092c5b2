// Package metrics shows the agent to Prometheus: numbers that are read when it
// asks, and two histograms that are filled as things happen.
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

// Config is what Metrics are made of.
type Config struct {
	Source  Source
	Name    string // this router's, whose own bans do not travel to it
	Version string // of the program, for build_info
	Commit  string // likewise; may be ""

	// Now is the mesh's time, corrected to the members' median: the agent's
	// clock.now. The default is time.Now.
	Now func() time.Time

	// Settled reports whether this router has heard enough of the mesh for what
	// arrives to be news: gossip.Mesh.Settled. nil is always. It is called from
	// Changed.
	Settled func() bool

	Logger *slog.Logger // of errors while a scrape is answered; may be nil
}

// Metrics is the handler of /metrics. Its registry is its own: two agents in one
// process do not meet there.
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

// maxScrapes is how many scrapes are answered at once; more are told to come
// again (503).
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
