package leader

import (
	"slices"
	"time"
)

// sessions remembers the NETCONF session-ids that leaders announced, so that
// the lock of one that froze can be broken.
type sessions struct {
	of map[string]announced // by member
}

type announced struct {
	session uint64
	at      time.Time // last word of that member
}

// note takes in a member's own word. Session 0 means that it has none open.
func (s *sessions) note(now time.Time, name string, session uint64) {
	if session == 0 {
		delete(s.of, name)
		return
	}
	if s.of == nil {
		s.of = make(map[string]announced)
	}
	s.of[name] = announced{session: session, at: now}
}

// forget drops all: whoever has got the lock has proved that none of them holds it.
func (s *sessions) forget() { clear(s.of) }

// silent returns the sessions of members without a word for at least d.
func (s *sessions) silent(now time.Time, d, remember time.Duration) []uint64 {
	var ids []uint64
	for name, a := range s.of {
		switch quiet := now.Sub(a.at); {
		case quiet > remember:
			delete(s.of, name)
		case quiet >= d:
			ids = append(ids, a.session)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
