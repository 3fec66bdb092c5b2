package invite

import (
	"sync"
	"time"
)

// Limits on machines without a token. Nobody guesses a secret of 256 bits; the limits keep the attempts cheap.
const (
	maxAtOnce     = 32 // streams
	maxAtOnceHost = 4
	maxFailedHost = 10 // in failWindow, by one host
	// By all hosts: it bounds the memory and the handshakes that a botnet can cause in a minute.
	maxFailed  = 300
	failWindow = time.Minute
)

// guard counts open streams and failures of each host.
type guard struct {
	now func() time.Time

	mu     sync.Mutex
	began  time.Time // start of the window
	inside map[string]int
	all    int
	failed map[string]int
	wrong  int // failures of all hosts
}

func newGuard(now func() time.Time) *guard {
	return &guard{now: now, inside: make(map[string]int), failed: make(map[string]int)}
}

// enter returns why a host may not open a stream, or "" if it may; then leave must follow.
func (g *guard) enter(host string) (reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	// A clock that was set back begins a new window; otherwise the old one would last for as long as it was set back.
	if now := g.now(); now.Sub(g.began) >= failWindow || now.Before(g.began) {
		g.began, g.wrong = now, 0
		clear(g.failed)
	}
	switch {
	case g.failed[host] >= maxFailedHost:
		return "too many failed attempts of this host"
	case g.wrong >= maxFailed:
		return "too many failed attempts of all hosts"
	case g.inside[host] >= maxAtOnceHost:
		return "too many at once of this host"
	case g.all >= maxAtOnce:
		return "too many at once"
	}
	g.inside[host]++
	g.all++
	return ""
}

// leave counts a failure for its host and in all.
func (g *guard) leave(host string, failed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.inside[host]--; g.inside[host] <= 0 {
		delete(g.inside, host)
	}
	if failed {
		g.wrong++
		g.failed[host]++
	}
}

// sparse limits log lines of one kind to a few each minute, and counts the rest.
type sparse struct {
	now func() time.Time

	mu    sync.Mutex
	began time.Time
	n     int
	held  int
}

const maxLines = 20

// allow reports whether to write a line, and how many were suppressed before it.
func (s *sparse) allow() (held int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.now(); now.Sub(s.began) >= time.Minute || now.Before(s.began) {
		s.began, s.n = now, 0
	}
	if s.n >= maxLines {
		s.held++
		return 0, false
	}
	held, s.held = s.held, 0
	s.n++
	return held, true
}
