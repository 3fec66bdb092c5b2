package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"banmesh/mesh/commit"
)

// commits counts what this router, leading, did at the conductor.
type commits struct {
	seconds prometheus.Histogram
	changes *prometheus.CounterVec
	trouble *prometheus.CounterVec
}

func newCommits() *commits {
	return &commits{
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "banmesh_commit_seconds",
			Help:    "Duration of this router's commits at the conductor that changed something.",
			Buckets: []float64{.1, .25, .5, 1, 2, 5, 10, 20, 30, 60, 90},
		}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "banmesh_commit_addresses_total",
			Help: "Addresses that this router's commits added to the tenant and removed from it.",
		}, []string{"change"}),
		trouble: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "banmesh_commit_trouble_total",
			Help: "What went wrong at the conductor while this router led, by kind; each is counted when it begins.",
		}, []string{"kind"}),
	}
}

// Committed takes note of an event at the conductor. It does not block: made for
// commit.Config.OnEvent.
func (m *Metrics) Committed(e commit.Event) { m.commits.event(e) }

func (c *commits) event(commit.Event) {}

// Describe implements prometheus.Collector.
func (c *commits) Describe(out chan<- *prometheus.Desc) {
	c.seconds.Describe(out)
	c.changes.Describe(out)
	c.trouble.Describe(out)
}

// Collect implements prometheus.Collector.
func (c *commits) Collect(out chan<- prometheus.Metric) {
	c.seconds.Collect(out)
	c.changes.Collect(out)
	c.trouble.Collect(out)
}
