package gossip

import (
	"sync"
	"time"
)

// pace is a token bucket.
type pace struct {
	rate  float64 // tokens a second
	burst float64

	mu     sync.Mutex
	tokens float64
	at     time.Time
}

func newPace(rate, burst int) *pace {
	return &pace{rate: float64(rate), burst: float64(burst), tokens: float64(burst), at: time.Now()}
}

// take takes n tokens, or says how long until there are enough. A full bucket may be overdrawn: otherwise a single frame to
// very many members would wait for ever.
func (p *pace) take(n int) (wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if d := now.Sub(p.at); d > 0 {
		p.tokens = min(p.burst, p.tokens+d.Seconds()*p.rate)
	}
	p.at = now
	need := min(float64(n), p.burst)
	if p.tokens < need {
		// One microsecond more than computed: rounding down would have the caller come back too early, again and again.
		return time.Duration((need-p.tokens)/p.rate*float64(time.Second)) + time.Microsecond
	}
	p.tokens -= float64(n)
	return 0
}

// give gives n tokens back.
func (p *pace) give(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tokens = min(p.burst, p.tokens+float64(n))
}
