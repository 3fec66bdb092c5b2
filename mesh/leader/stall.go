package mesh

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"banmesh/mesh/commit"
	"banmesh/mesh/leader"
	"banmesh/store"
)

// stall watches whether what waits for the conductor gets there, whatever the
// leader says of itself: a member that leads and does nothing must not keep the
// others from it. Such a leader is barred for a while, and the next one claims.
type stall struct {
	patience time.Duration // nothing has to move for so long
	grace    time.Duration // and so long more while the leader says that it is committing
	looked   time.Time     // watchStall's own

	mu     sync.Mutex
	seen   progress
	since  time.Time // when something last moved, nothing waited or the leader changed
	waited time.Time // when a leader last said that it waits for another administrator
	leader string
	round  int // leaders in a row under which nothing moved
	barred map[string]time.Time
	text   string // the warning, "" for none
}

// progress is what a member sees of the commits by itself.
type progress struct {
	add, remove int // changes that wait
	placed      int
	newest      store.Millis // of what is placed
}

const (
	stallLook = 5 * time.Second // between two looks
	barredFor = 10 * time.Minute
	// waitingFor is how long a leader is believed that it waits for another administrator.
	waitingFor = 10 * time.Minute
	// expiryPatience is how long removals may wait for company.
	expiryPatience = 5 * time.Minute
	maxStallRound  = 5
)

func newStall(c commit.Config) *stall {
	return &stall{
		// A batch waits for company and, after a burst, for its turn.
		patience: max(3*c.MaxWait, 30*time.Second, c.MinInterval+2*c.MaxWait),
		grace:    c.Timeout,
		barred:   make(map[string]time.Time),
	}
}

// look takes what is to be seen at the time now. It returns the leader that is
// barred from now on, "" for none.
func (s *stall) look(now time.Time, p progress, who string, self bool, work leader.State) (bar string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, until := range s.barred {
		if !now.Before(until) {
			delete(s.barred, name)
		}
	}
	moved := p.placed != s.seen.placed || p.newest != s.seen.newest
	waits := p.add > 0 || p.remove > 0
	s.seen = p
	if moved || !waits || s.since.IsZero() {
		s.round, s.text = 0, ""
	}
	if moved || !waits || who != s.leader || s.since.IsZero() {
		s.since, s.leader = now, who
		return ""
	}
	patience := s.patience
	if p.add == 0 {
		patience += expiryPatience
	}
	if work == leader.Committing {
		patience += s.grace
	}
	if work == leader.Waiting {
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
	s.text = fmt.Sprintf("%d bans and %d removals wait for the conductor, and nothing has moved for %v: %s leads; `banmesh status` there says why, and `banmesh revoke --origin %s --block` takes its say from it", p.add, p.remove, long.Round(time.Second), who, who)
	if self {
		s.text = fmt.Sprintf("%d bans and %d removals wait for the conductor, and nothing has moved for %v: this router leads; see the commit line", p.add, p.remove, long.Round(time.Second))
		// It is not for want of another leader.
		clear(s.barred)
		return ""
	}
	if idle < patience<<s.round {
		return ""
	}
	s.barred[who] = now.Add(barredFor)
	s.round = min(s.round+1, maxStallRound)
	return who
}

// bars says whether a member's word about leading does not count for now.
func (s *stall) bars(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.barred[name]
	return ok
}

// warning is what is wrong now, "" for nothing.
func (s *stall) warning() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}

// passedOver are the leaders that are barred, in order. They are named also when their successor has committed.
func (s *stall) passedOver() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.barred))
}

// watchStall is one look.
func (l *lead) watchStall(now time.Time) {
	if l.stall == nil || now.Sub(l.stall.looked) < stallLook {
		return
	}
	l.stall.looked = now
	own := l.committer.Status()
	p := progress{add: own.PendingAdd, remove: own.PendingRemove}
	for _, e := range l.Set.Placed() {
		p.placed++
		p.newest = max(p.newest, e.First)
	}
	lead := l.elector.Status()
	if bar := l.stall.look(now, p, lead.Leader, lead.Self, lead.Work); bar != "" {
		l.Logger.Warn("the leader commits nothing: another one may claim", "leader", bar, "add", p.add, "remove", p.remove)
		l.elector.Recheck()
	}
}
