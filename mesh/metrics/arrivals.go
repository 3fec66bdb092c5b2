package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"banmesh/store"
)

const (
	// liveWithin is the largest age of an offence for which the arrival of its ban is measured. An older ban was not under
	// way for so long: an exchange after an outage brought it, or its fail2ban repeated it at a start.
	liveWithin = store.Millis(time.Minute / time.Millisecond)

	// liveBatch is how many bans of others one change may bring. A larger change is a catch-up or an import, whose starts say
	// nothing about the way.
	liveBatch = 256
)

// arrivals measures how long other routers' bans take to arrive.
type arrivals struct {
	self    string
	now     func() time.Time
	settled func() bool
	seconds prometheus.Histogram
	late    prometheus.Counter
}

func newArrivals(self string, now func() time.Time, settled func() bool) *arrivals {
	return &arrivals{
		self: self, now: now, settled: settled,
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "banmesh_propagation_seconds",
			Help: "Time from the start of another router's ban, which is that of the offence, to its arrival here, by the mesh's clock. " +
				"Late and bulk arrivals are left out.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2, 3, 5, 10, 20, 30, 60},
		}),
		late: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "banmesh_bans_arrived_late_total",
			Help: "Bans of other routers that banmesh_propagation_seconds leaves out: started over a minute ago, " +
				"more than 256 at once, or come before this router had heard enough of the mesh.",
		}),
	}
}

// Changed notes a change of the set. It neither blocks nor calls the store, so that it fits store.Config.OnChange.
//
// It observes banmesh_propagation_seconds for each new ban that another router made: the mesh's time minus the ban's start.
// The origin reports the start: for a manual ban the moment of the command, for fail2ban's the last failure in whole seconds.
// So the figure includes the time that fail2ban took to notice, and up to a second of rounding. The clocks of both routers
// are corrected to the members' median.
//
// Bans that did not arrive live by gossip are left out and counted as late, as far as that can be told: bans that started
// more than a minute ago (an exchange after an outage, a fail2ban that repeats its bans at a start), changes with more than
// 256 of them (a catch-up, an import), and all before Config.Settled. Extensions of known bans count neither way.
func (m *Metrics) Changed(c store.Change) { m.arrivals.changed(c) }

func (a *arrivals) changed(c store.Change) {
	n := 0
	for i := range c.Events {
		if a.theirs(&c.Events[i]) {
			n++
		}
	}
	switch {
	case n == 0:
	case n > liveBatch || c.More > 0 || !a.settled():
		a.late.Add(float64(n))
	default:
		a.observe(c.Events)
	}
}

// theirs reports whether the event is a ban that another router made.
func (a *arrivals) theirs(e *store.Event) bool {
	return e.Kind == store.EventBan && e.Origin != a.self
}

func (a *arrivals) observe(events []store.Event) {
	now := store.At(a.now())
	for i := range events {
		if e := &events[i]; !a.theirs(e) {
			continue
		} else if took := now - e.Start; took > liveWithin {
			a.late.Inc()
		} else {
			a.seconds.Observe(float64(max(took, 0)) / 1000) // clocks agree only to some milliseconds
		}
	}
}

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
