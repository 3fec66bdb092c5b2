package metrics

import "github.com/prometheus/client_golang/prometheus"

// number is a metric that shows one number of a Sample.
type number struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	labels []string // values
	value  func(*Sample) float64
}

type value = func(*Sample) float64

func gauge(name, help string, v value) number {
	return number{prometheus.NewDesc(name, help, nil, nil), prometheus.GaugeValue, nil, v}
}

func counter(name, help string, v value) number {
	return number{prometheus.NewDesc(name, help, nil, nil), prometheus.CounterValue, nil, v}
}

// series is one value of a label and the number that it shows.
type series struct {
	label string
	value value
}

// labelled returns one metric with several numbers, distinguished by a label.
func labelled(kind prometheus.ValueType, name, help, label string, all ...series) []number {
	desc := prometheus.NewDesc(name, help, []string{label}, nil)
	out := make([]number, len(all))
	for i, s := range all {
		out[i] = number{desc, kind, []string{s.label}, s.value}
	}
	return out
}
