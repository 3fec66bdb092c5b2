package leader

import (
	"cmp"
	"slices"
	"time"
)

// Session is an open edit at a conductor. A NETCONF session-id alone would not identify it, because each node of a conductor
// counts its own (RFC 6241 §8.1 makes it unique only on one server). The zero Session is none.
type Session struct {
	Node string // of the conductor, as the member addresses it
	ID   uint64
}

// sessions remembers the sessions that leaders announced, so that the lock of a frozen leader can be broken.
type sessions struct {
	of map[string]announced // by member
}

// announced is the session that a leader held the lock with, as it last said. It may be ended only after that
// member has been silent for long.
type announced struct {
	session Session
	at      time.Time // last heartbeat of that member
}

// note records a member's own heartbeat. The zero session means that it has none open.
func (s *sessions) note(now time.Time, name string, session Session) {
	if session == (Session{}) {
		delete(s.of, name)
		return
	}
	if s.of == nil {
		s.of = make(map[string]announced)
	}
	s.of[name] = announced{session: session, at: now}
}

// excuse leaves a period out of everybody's silence.
// After this member itself was suspended: the others were not silent, it was deaf.
func (s *sessions) excuse(d time.Duration) {
	for name, a := range s.of {
		a.at = a.at.Add(d)
		s.of[name] = a
	}
}

// forget drops all sessions: a member that got the lock has proved that none of them holds it.
func (s *sessions) forget() { clear(s.of) }

// silent returns the sessions of members without a heartbeat for at least d.
func (s *sessions) silent(now time.Time, d, remember time.Duration) []Session {
	var ids []Session
	for name, a := range s.of {
		switch quiet := now.Sub(a.at); {
		case quiet > remember:
			delete(s.of, name)
		case quiet >= d:
			ids = append(ids, a.session)
		}
	}
	slices.SortFunc(ids, func(a, b Session) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.ID, b.ID)) })
	return slices.Compact(ids)
}
