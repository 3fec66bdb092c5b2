package gossip

import (
	"net"
	"sync"
)

// connSet holds the open streams, to be closed at shutdown.
type connSet struct {
	mu     sync.Mutex
	closed bool
	set    map[net.Conn]struct{}
}

// False after closeAll: the caller closes the stream itself, since nobody else will.
func (s *connSet) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.set == nil {
		s.set = make(map[net.Conn]struct{})
	}
	s.set[c] = struct{}{}
	return true
}

func (s *connSet) remove(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.set, c)
}

// closeAll also has every later connection refused, so that none that is being opened outlives the end of the
// mesh.
func (s *connSet) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.set {
		_ = c.Close()
	}
}
