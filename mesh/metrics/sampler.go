package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// sampler turns a Sample into metrics at each scrape.
type sampler struct {
	source   Source
	now      func() time.Time
	arrivals *arrivals
}

// Describe implements prometheus.Collector.
func (s *sampler) Describe(out chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s *sampler) Collect(out chan<- prometheus.Metric) { _ = s.source.Sample() }
