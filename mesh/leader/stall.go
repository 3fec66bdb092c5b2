package leader

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"banmesh/internal/shell"
)

// Stall watches whether what waits for the conductor gets there, whatever the
// leader says of itself: a member that leads and does nothing must not keep the
// others from it. Such a leader is barred for a while, and the next one claims.
type Stall struct {
	patience time.Duration // nothing has to move for so long
	grace    time.Duration // and so long more while the leader says that it is committing

	mu     sync.Mutex
	seen   Progress
	since  time.Time // when something last moved, was first seen to wait, or the leader changed
	waited time.Time // when a leader last said that it waits for another administrator
	leader string
	round  int // leaders in a row under which nothing moved
	barred map[string]time.Time
	text   string // the warning, "" for none
}

// Progress is what a member sees of the commits by itself, whatever the leader reports.
type Progress struct {
	Add, Remove int   // changes that wait
	Placed      int   // prefixes that a leader says it has placed
	Newest      int64 // when the newest of them was placed, Unix ms
}

const (
	// StallLook is the time between two looks. Each costs a plan of all bans.
	StallLook = 15 * time.Second

	// BarredFor is how long a leader that commits nothing is passed over.
	BarredFor = 10 * time.Minute
	// waitingFor is how long a leader is believed that it waits for another administrator.
	waitingFor = 10 * time.Minute
	// expiryPatience is how long removals may wait for company.
	expiryPatience = 5 * time.Minute
	maxStallRound  = 5
)

// NewStall returns a watch that bars a leader once nothing has moved for patience, and for grace more while the leader says that it
// is committing.
func NewStall(patience, grace time.Duration) *Stall {
	return &Stall{patience: patience, grace: grace, barred: make(map[string]time.Time)}
}

// Look takes what is seen at the time now. It returns the leader that is barred from now on, "" for none.
func (s *Stall) Look(now time.Time, p Progress, who string, self bool, work State) (bar string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, until := range s.barred {
		if !now.Before(until) {
			delete(s.barred, name)
		}
	}
	moved := p.Placed != s.seen.Placed || p.Newest != s.seen.Newest
	waits := p.Add > 0 || p.Remove > 0
	waited := s.seen.Add > 0 || s.seen.Remove > 0
	s.seen = p
	if moved || !waits || s.since.IsZero() {
		s.round, s.text = 0, ""
	}
	if moved || !waits || !waited || who != s.leader || s.since.IsZero() {
		s.since, s.leader = now, who
		return ""
	}
	patience := s.patience
	if p.Add == 0 {
		patience += expiryPatience
	}
	if work == Committing {
		patience += s.grace
	}
	if work == Waiting {
		s.waited = now
	}
	// It tries between two waits, and says so: what counts is the time since it last waited.
	long, idle := now.Sub(s.since), now.Sub(s.since)
	if s.waited.After(s.since) && long < waitingFor {
		idle = now.Sub(s.waited)
	}
	if who == "" || idle < patience {
		return ""
	}
	s.text = fmt.Sprintf("%d bans and %d removals wait for the conductor, and nothing has moved for %v: %s leads; `banmesh status` there says why, and `banmesh revoke --origin %s --block` takes its say from it", p.Add, p.Remove, long.Round(time.Second), who, shell.Quote(who))
	if self {
		s.text = fmt.Sprintf("%d bans and %d removals wait for the conductor, and nothing has moved for %v: this router leads; see the commit line", p.Add, p.Remove, long.Round(time.Second))
		// It is not for want of another leader.
		clear(s.barred)
		return ""
	}
	if idle < patience<<s.round {
		return ""
	}
	s.barred[who] = now.Add(BarredFor)
	s.round = min(s.round+1, maxStallRound)
	return who
}

// Bars reports whether what a member says about leading is ignored for now.
func (s *Stall) Bars(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.barred[name]
	return ok
}

// Warning is what is wrong now, "" for nothing.
func (s *Stall) Warning() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}

// PassedOver are the leaders that are barred, in order. They are named also when their successor has committed.
func (s *Stall) PassedOver() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.barred))
}
