package gossip

import (
	"sync"
	"time"
)

// introduce exchanges member lists with a member that knows us but that we do not know, or not in its present run: memberlist's
// notice of it was lost.
func (m *Mesh) introduce(name, from string) {
	if name != m.cfg.Name && m.strangers.due(name) {
		m.timers.after(0, func() { _ = m.pushPull(m.ctx, from) })
	}
}

// strangers are unknown members that made themselves known by asking.
type strangers struct {
	mu  sync.Mutex
	met map[string]time.Time
}

const (
	// A push/pull sends the whole list of members, and a forged question costs one packet.
	strangerPause = 5 * time.Second
	maxStrangers  = 256
)

// due says whether to look up a stranger now; it is not repeated at once.
func (s *strangers) due(name string) bool {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, at := range s.met {
		if now.Sub(at) >= strangerPause {
			delete(s.met, n)
		}
	}
	if _, ok := s.met[name]; ok || len(s.met) >= maxStrangers {
		return false
	}
	if s.met == nil {
		s.met = make(map[string]time.Time)
	}
	s.met[name] = now
	return true
}
