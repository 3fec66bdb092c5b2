package page

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkApply is what one ban costs the page, on its own goroutine, while
// more come than it remembers.
func BenchmarkApply(b *testing.B) {
	now := time.Now()
	f := emptyTimeline(now)
	n := 0
	for b.Loop() {
		n++
		f.apply(banAt(fmt.Sprintf("2001:db8::%x/128", n), "router2", "sshd", now.Add(time.Duration(n))), now)
	}
}

// BenchmarkFrame is what one look costs, for all viewers together: at most four
// a second.
func BenchmarkFrame(b *testing.B) {
	a := newFake()
	p := idlePage(b, a)
	now := time.Now()
	for i := range keptSightings {
		p.timeline.apply(banAt(fmt.Sprintf("2001:db8::%x/128", i), "router2", "sshd", now.Add(time.Duration(i-keptSightings)*time.Second)), now)
	}
	size := 0
	for b.Loop() {
		p.buildFrame(b.Context())
	}
	state, _ := p.frames.all()
	for _, part := range state.Parts {
		size += len(part)
	}
	b.ReportMetric(float64(size), "B/state")
}
