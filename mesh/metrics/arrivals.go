package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"banmesh/store"
)

const (
	// liveWithin is how old an offence may be when its ban arrives for the way to
	// be measured. What is older was not on its way so long: it came by an
	// exchange after an outage, or its fail2ban repeated it at a start.
	liveWithin = time.Minute

	// liveBatch is how many bans of others one change may bring. More at once are
	// a catch-up or somebody's import, whose starts say nothing about the way.
	liveBatch = 256
)

// arrivals measures how long other routers' bans take to get here.
type arrivals struct {
	self    string
	now     func() time.Time
	seconds prometheus.Histogram
	late    prometheus.Counter
	since   atomic.Int64 // store.Millis from which on offences are measured; 0 while this router is not settled
}

func newArrivals(self string, now func() time.Time) *arrivals {
	return &arrivals{
		self: self, now: now,
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "banmesh_propagation_seconds",
			Help: "From an offence at another router, by the start of its ban, to the arrival of that ban here; " +
				"by the mesh's clock, with what fail2ban takes to notice it. Bans that came late or in bulk are not in it.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2, 3, 5, 10, 20, 30, 60},
		}),
		late: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "banmesh_bans_arrived_late_total",
			Help: "Bans of other routers that are not in banmesh_propagation_seconds: over a minute old, from before this router was settled, or over 256 at once.",
		}),
	}
}

// Changed takes note of a change of the set. It is cheap, does not block and
// calls nobody: made for store.Config.OnChange.
//
// A ban is measured when another router made it, when it is new here (not an
// extension of one), when its offence began after the first scrape-independent
// look at Settled said true (see Settled), and when it is part of a change of at
// most 256 such bans. It is then taken to have come live, by gossip.
func (m *Metrics) Changed(c store.Change) { m.arrivals.changed(c) }

// Settled tells that this router has heard enough of the mesh: from now on what
// arrives is news. Calls after the first change nothing. The agent calls it from
// its pulse once gossip.Mesh.Settled says so.
func (m *Metrics) Settled() {
	m.arrivals.since.CompareAndSwap(0, int64(store.At(m.arrivals.now())))
}

func (a *arrivals) changed(store.Change) {}

// Describe implements prometheus.Collector.
func (a *arrivals) Describe(out chan<- *prometheus.Desc) {
	a.seconds.Describe(out)
	a.late.Describe(out)
}

// Collect implements prometheus.Collector.
func (a *arrivals) Collect(out chan<- prometheus.Metric) {
	a.seconds.Collect(out)
	a.late.Collect(out)
}
