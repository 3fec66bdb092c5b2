package metrics

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"banmesh/mesh/commit"
	"banmesh/mesh/enforce"
)

// sampler turns a Sample into metrics at each scrape, so that all of one answer is of the same moment.
type sampler struct {
	source  Source
	numbers []number

	dropped, jails, commitState, enforceState, lastCommit *prometheus.Desc
}

func newSampler(s Source) *sampler {
	return &sampler{
		source: s, numbers: newNumbers(),
		dropped: prometheus.NewDesc("banmesh_gossip_dropped_total",
			"Packets, frames and streams of the gossip that were refused or lost, by reason.", []string{"reason"}, nil),
		jails: prometheus.NewDesc("banmesh_jail_bans",
			"Prefixes with a live ban in each jail; those of small ones beyond 50 are one, other.", []string{"jail"}, nil),
		commitState: prometheus.NewDesc("banmesh_commit_state",
			"1 for the state in which the commits are, 0 for the others.", []string{"state"}, nil),
		enforceState: prometheus.NewDesc("banmesh_enforce_state",
			"1 for the state in which enforcement on this router is, 0 for the others.", []string{"state"}, nil),
		lastCommit: prometheus.NewDesc("banmesh_last_commit_timestamp_seconds",
			"When the leader last changed the conductor, Unix time; absent before that.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (s *sampler) Describe(out chan<- *prometheus.Desc) {
	for _, m := range s.numbers {
		out <- m.desc
	}
	for _, d := range []*prometheus.Desc{s.dropped, s.jails, s.commitState, s.enforceState, s.lastCommit} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (s *sampler) Collect(out chan<- prometheus.Metric) {
	sample := s.source.Sample()
	for _, m := range s.numbers {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&sample), m.labels...)
	}
	collectMost(out, s.dropped, prometheus.CounterValue, maxReasons, underscored(sample.Gossip.Dropped))
	collectMost(out, s.jails, prometheus.GaugeValue, maxJails, sample.Jails)
	collectState(out, s.commitState, commitStates, sample.Commit.State)
	collectState(out, s.enforceState, enforceStates, cmp.Or(string(sample.Enforce.State), string(enforce.Off)))
	if at := sample.Commit.LastCommit; at != 0 {
		out <- prometheus.MustNewConstMetric(s.lastCommit, prometheus.GaugeValue, float64(at)/1000)
	}
}

var (
	commitStates = []string{
		string(commit.StateIdle), string(commit.StatePending), string(commit.StateCommitting), string(commit.StateWaiting),
		string(commit.StateFailing), string(commit.StateFrozen), string(commit.StateOff),
	}
	enforceStates = []string{
		string(enforce.Off), string(enforce.Waiting), string(enforce.On), string(enforce.Frozen), string(enforce.Failing),
		string(enforce.Limited),
	}
)

// collectState sets the metric of one state out of several. A state of a newer leader that is unknown here sets none.
func collectState(out chan<- prometheus.Metric, d *prometheus.Desc, states []string, is string) {
	for _, state := range states {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, truth(state == is), state)
	}
}

const (
	// maxReasons bounds the label. The reasons of gossip are constants, far fewer.
	maxReasons = 100
	// maxJails bounds the label, because other routers choose the names of their jails.
	maxJails = 50
)

// collectMost shows the largest counts by name, and the rest as one.
func collectMost[N int | uint64](out chan<- prometheus.Metric, d *prometheus.Desc, kind prometheus.ValueType, most int, counts map[string]N) {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	shown := make(map[string]N)
	for i, name := range names {
		if name = strings.ToValidUTF8(name, "?"); i >= most {
			name = "other"
		}
		shown[name] += counts[names[i]]
	}
	for name, n := range shown {
		out <- prometheus.MustNewConstMetric(d, kind, float64(n), name)
	}
}

// underscored writes reasons as `status --json` does.
func underscored(counts map[string]uint64) map[string]uint64 {
	out := make(map[string]uint64, len(counts))
	for reason, n := range counts {
		out[strings.ReplaceAll(reason, " ", "_")] += n
	}
	return out
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
