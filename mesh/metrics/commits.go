package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"banmesh/mesh/commit"
)

// commits counts what this router does at the conductor while it leads.
type commits struct {
	total   prometheus.Counter
	seconds prometheus.Histogram
	changes *prometheus.CounterVec
	trouble *prometheus.CounterVec
}

func newCommits() *commits {
	c := &commits{
		total: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "banmesh_commits_total",
			Help: "Commits of this router's own at the conductor: the sum over all routers is the mesh's.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "banmesh_commit_seconds",
			Help:    "Duration of this router's commits at the conductor, those that changed something.",
			Buckets: []float64{.1, .25, .5, 1, 2, 5, 10, 20, 30, 60, 90},
		}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "banmesh_commit_changes_total",
			Help: "Addresses that this router's commits added to the tenant or removed from it.",
		}, []string{"change"}),
		trouble: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "banmesh_commit_trouble_total",
			Help: "Times that trouble at the conductor began while this router led, by kind.",
		}, []string{"kind"}),
	}
	// A rate needs a zero to start from.
	for _, change := range []string{"add", "remove"} {
		c.changes.WithLabelValues(change)
	}
	for _, kind := range []commit.EventKind{
		commit.EventError, commit.EventByHand, commit.EventReset, commit.EventHeld, commit.EventForeign, commit.EventWideOpen,
	} {
		c.trouble.WithLabelValues(string(kind))
	}
	return c
}

// Committed counts an event at the conductor, and for a commit also its duration (commit.Event.Took) and its changes. It does not
// block, so that it fits commit.Config.OnEvent.
func (m *Metrics) Committed(e commit.Event) { m.commits.event(e) }

func (c *commits) event(e commit.Event) {
	if e.Kind != commit.EventCommit {
		c.trouble.WithLabelValues(string(e.Kind)).Inc()
		return
	}
	c.total.Inc()
	c.seconds.Observe(e.Took.Seconds())
	c.changes.WithLabelValues("add").Add(float64(len(e.Add)))
	c.changes.WithLabelValues("remove").Add(float64(len(e.Remove)))
}

// Describe implements prometheus.Collector.
func (c *commits) Describe(out chan<- *prometheus.Desc) {
	c.total.Describe(out)
	c.seconds.Describe(out)
	c.changes.Describe(out)
	c.trouble.Describe(out)
}

// Collect implements prometheus.Collector.
func (c *commits) Collect(out chan<- prometheus.Metric) {
	c.total.Collect(out)
	c.seconds.Collect(out)
	c.changes.Collect(out)
	c.trouble.Collect(out)
}
