package invite

import (
	"sync"
	"time"
)

// What strangers may do at the door. A secret of 256 bits is not guessed; the bounds keep the attempts from costing anything.
const (
	maxAtOnce     = 32 // streams
	maxAtOnceHost = 4
	maxFailedHost = 10 // in failWindow, of one host
	maxFailed     = 300
	failWindow    = time.Minute
	maxHosts      = 4096 // told apart
)

// guard counts who is at the door and who has failed there.
type guard struct {
	now func() time.Time

	mu     sync.Mutex
	began  time.Time // of the window
	inside map[string]int
	all    int
	failed map[string]int
	wrong  int // of all hosts
}

func newGuard(now func() time.Time) *guard {
	return &guard{now: now, inside: make(map[string]int), failed: make(map[string]int)}
}

// enter says why a host may not come in, "" when it may; leave must follow then.
func (g *guard) enter(host string) (reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
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

func (g *guard) leave(host string, failed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.inside[host]--; g.inside[host] <= 0 {
		delete(g.inside, host)
	}
	if failed {
		g.wrong++
		if len(g.failed) < maxHosts {
			g.failed[host]++
		}
	}
}

// sparse lets a few lines of a kind through each minute, and counts the rest.
type sparse struct {
	now func() time.Time

	mu    sync.Mutex
	began time.Time
	n     int
	held  int
}

const maxLines = 20

// allow reports whether to write a line, and how many were held back before it.
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
