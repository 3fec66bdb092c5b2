package leader

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/internal/shell"
)

// Stall watches whether what waits for the conductor gets there, whatever the
// leader says of itself: a member that leads and does nothing must not keep the
// others from it. Such a leader is barred for a while, and the next one claims.
type Stall struct {
	pace     Pace
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

	busy  time.Time // when the leader was last seen to do something, or said why it does not
	doubt bool      // the leader should have begun by now
	idle  string    // the warning that it has not, "" for none
	named string    // the leader that a warning named last, "" once something moved under it
}

// Pace is how fast a leader commits, by the configuration.
type Pace struct {
	Window, MaxWait time.Duration // how long a change waits for company, and at most
	Interval        time.Duration // between two commits after a burst
	Timeout         time.Duration // of one step of a commit
}

// Progress is what a member sees of the commits by itself, whatever the leader reports.
type Progress struct {
	Add, Remove int       // changes that wait
	Placed      int       // prefixes that a leader says it has placed
	Newest      int64     // when the newest of them was placed, Unix ms
	Came        time.Time // when the set last changed
	Told        bool      // the leader's report says why it does not commit, which status shows
}

const (
	// StallLook is the time between two looks while nothing changes and nothing waits. Each costs a plan of all bans.
	StallLook = 15 * time.Second

	// BarredFor is how long a leader that commits nothing is passed over.
	BarredFor = 10 * time.Minute
	// waitingFor is how long a leader is believed that it waits for another administrator.
	waitingFor = 10 * time.Minute
	// expiryPatience is how long removals may wait for company.
	expiryPatience = 5 * time.Minute
	maxStallRound  = 5
	// begins is how long an honest leader may take to begin once a change has waited for company. Before it touches the
	// conductor it records what it will place, so that slow conductors do not delay what is seen here.
	begins = 5 * time.Second
)

// NewStall returns a watch of leaders that commit at this pace. It bars one under which nothing has moved for three times
// MaxWait, and for Timeout more while it says that it is committing.
func NewStall(p Pace) *Stall {
	// A batch waits for company and, after a burst, for its turn.
	patience := max(3*p.MaxWait, 30*time.Second, p.Interval+2*p.MaxWait)
	return &Stall{pace: p, patience: patience, grace: p.Timeout, barred: make(map[string]time.Time)}
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
	// At the start all that was placed looks new; what was placed long ago keeps nobody busy.
	placed := moved && (!s.since.IsZero() || now.Sub(time.UnixMilli(p.Newest)) < s.pace.Interval)
	if placed || p.Told || work == Committing || work == Waiting {
		s.busy = now
	}
	s.doubt, s.idle = false, ""
	if moved || !waits || s.since.IsZero() {
		s.round, s.text = 0, ""
		if who == s.named {
			s.named = ""
		}
	}
	if moved || !waits || !waited || who != s.leader || s.since.IsZero() {
		s.since, s.leader = now, who
		return ""
	}
	s.begun(now, p, who, self)
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
	s.named = who
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

// begun judges whether the leader should have begun with what waits. A leader that has just committed may wait for its turn, and
// one that says why it does not commit has Look's patience. Called with the lock held.
func (s *Stall) begun(now time.Time, p Progress, who string, self bool) {
	turn := s.busy.Add(s.pace.Interval + begins)
	if self || who == "" || p.Add == 0 || !s.busy.IsZero() && now.Before(turn) {
		return
	}
	due := s.since.Add(s.pace.MaxWait)
	// A leader that has just taken over has its time from then.
	at := s.since.Add(s.pace.Window)
	if p.Came.After(s.since) {
		at = p.Came.Add(s.pace.Window)
	}
	if at.Before(due) {
		due = at
	}
	s.doubt = now.Sub(due) >= begins/5
	if now.Sub(due) >= begins {
		s.named = who
		s.idle = fmt.Sprintf("%s for the conductor, and %s, which leads, has not begun to commit: it hangs, or only claims to lead; if another router does not take over within two minutes, `banmesh revoke --origin %s --block` takes its say from it", excerpt.Count(p.Add, "ban waits", "bans wait"), who, shell.Quote(who))
	}
}

// Doubts reports whether the leader should have begun with what waits: this member should read the tenant, to see whether
// anything does.
func (s *Stall) Doubts() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doubt
}

// Named reports whether a warning named a leader under which nothing has moved since. A member that passes it over takes the lead
// from it while others, which look at other moments, still follow it.
func (s *Stall) Named(leader string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return leader == s.named
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
	if s.text == "" {
		return s.idle
	}
	return s.text
}

// PassedOver are the leaders that are barred, in order. They are named also when their successor has committed.
func (s *Stall) PassedOver() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.barred))
}
