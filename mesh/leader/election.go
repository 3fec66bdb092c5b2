package leader

import (
	"time"
)

// claim is the right to lead. Of two claims the one that beats the other counts.
type claim struct {
	term     uint64
	name     string
	priority int
}

// ranksBefore orders members: higher priority, then name.
func (c claim) ranksBefore(o claim) bool {
	if c.priority != o.priority {
		return c.priority > o.priority
	}
	return c.name < o.name
}

func (c claim) beats(o claim) bool {
	if c.term != o.term {
		return c.term > o.term
	}
	return c.ranksBefore(o)
}

// election is one member's view of who leads: a state machine without clock,
// network or lock. Every method is given the time.
type election struct {
	self   claim // its term is that of the own claim while leading
	tuning tuning
	watch  bool // never claims

	term    uint64 // highest seen, own ones included
	leader  claim  // name "" while none is known
	work    Heartbeat
	since   time.Time // of leader
	leading bool
	retired bool // has left: never claims again

	// heard is the last word of the leader, from itself or passed on; where
	// there is no leader, the time from which on silence counts.
	heard  time.Time
	direct time.Time // last word of the leader from itself, zero if never
	vacant time.Time // since when the leader is known to be gone, zero if only silent
	former claim     // who held the place that is vacant
	asked  time.Time // first question of this silence, zero before it
	again  bool      // the second has been sent too
}

func newElection(name string, priority int, watch bool, t tuning, now time.Time) *election {
	return &election{self: claim{name: name, priority: priority}, tuning: t, watch: watch, heard: now, since: now}
}

// silence is how long a member waits for the leader's word.
func (e *election) silence() time.Duration {
	if e.watch {
		return 2*e.tuning.Observe + e.tuning.Silence
	}
	return e.tuning.Silence
}

// pause is the time between a question and the next step.
func (e *election) pause() time.Duration { return e.tuning.Silence / 6 }

// reply is what a received heartbeat calls for.
type reply uint8

const (
	replyNone  reply = iota
	replyClaim       // tell the sender of the own claim
	replyPass        // tell the sender whom this member follows
)

// receive takes in a heartbeat. from is the member that sent it, which is not
// the one it is about when it was passed on.
func (e *election) receive(now time.Time, from string, h Heartbeat) reply {
	e.term = max(e.term, h.Term)
	if h.Name == e.self.name {
		// Word of the own claim from before a restart: only its term matters.
		return replyNone
	}
	c := claim{term: h.Term, name: h.Name, priority: h.Priority}
	switch h.state {
	case Asking:
		return e.answer(now)
	case Finishing:
		return replyNone
	case Unable:
		if from == h.Name && h.Name == e.leader.name && h.Term >= e.leader.term {
			e.vacate(now)
		}
		return replyNone
	}
	heard := now.Add(-h.age)
	switch {
	case e.leading && !c.beats(e.self):
		return replyClaim
	case e.leading:
	case e.leader.name == c.name:
		if c.term < e.leader.term {
			return replyNone // overtaken on the way
		}
	case e.leader.name != "":
		if !c.beats(e.leader) {
			return e.answer(now)
		}
	case now.Sub(heard) >= e.silence():
		return replyNone // passed on, and too old to follow
	case c.name == e.former.name && c.term <= e.former.term && !e.vacant.IsZero() && now.Sub(e.vacant) < e.silence():
		return replyNone // a late word of one that has given up, or of somebody who has not heard of that
	}
	direct := from == h.Name
	if e.leading || e.leader.name != c.name {
		e.leading, e.since, e.heard, e.direct = false, now, heard, time.Time{}
		e.work, e.asked, e.again = h, time.Time{}, false
	}
	e.leader, e.vacant, e.former = c, time.Time{}, claim{}
	if heard.After(e.heard) {
		// Answers that know hardly more than this member must not make it ask anew.
		if direct || heard.Sub(e.heard) > e.pause() {
			e.asked, e.again = time.Time{}, false
		}
		e.heard = heard
	}
	if direct {
		e.direct, e.work = now, h
	}
	return replyNone
}

// answer tells who leads, where this member knows better than by hearsay:
// otherwise two members could vouch to each other for one that is long dead.
func (e *election) answer(now time.Time) reply {
	switch {
	case e.leading:
		return replyClaim
	case e.leader.name != "" && !e.direct.IsZero() && now.Sub(e.direct) < e.silence():
		return replyPass
	}
	return replyNone
}

// passOn is the heartbeat that replyPass sends.
func (e *election) passOn(now time.Time) Heartbeat {
	h := e.work
	h.Term, h.Name, h.Priority = e.leader.term, e.leader.name, e.leader.priority
	h.age = max(now.Sub(e.direct), 0)
	return h
}

// left takes in that a member has left the mesh properly.
func (e *election) left(now time.Time, name string) {
	if name != "" && !e.leading && name == e.leader.name {
		e.vacate(now)
	}
}

// vacate notes that the leader has given up its place. Who follows it may claim
// without waiting for a silence.
func (e *election) vacate(now time.Time) {
	e.former, e.vacant = e.leader, now
	e.leader, e.since, e.leading, e.work = claim{}, now, false, Heartbeat{}
	e.heard, e.direct, e.asked, e.again = now, time.Time{}, time.Time{}, false
}

// resign gives up the own leadership.
func (e *election) resign(now time.Time) {
	e.vacate(now)
	// The others come first: this one has just found out that it cannot.
	e.vacant = now.Add(e.tuning.HandOver)
}

// lead makes the own claim.
func (e *election) lead(now time.Time) {
	e.term++
	e.self.term = e.term
	e.leader, e.since, e.leading, e.work = e.self, now, true, Heartbeat{}
	e.heard, e.direct, e.vacant, e.former = now, time.Time{}, time.Time{}, claim{}
	e.asked, e.again = time.Time{}, false
}

// quiet forgets a leader that has not been heard of for too long.
func (e *election) quiet(now time.Time) {
	if e.leading || e.leader.name == "" || now.Sub(e.heard) < e.silence() {
		return
	}
	e.former = e.leader
	e.leader, e.since, e.direct, e.work = claim{}, now, time.Time{}, Heartbeat{}
}

// step is what is to be done now, and when to look again.
type step struct {
	ask, claim bool
	next       time.Time // zero: nothing to wait for
}

// due tells a member that does not lead what to do. able is its own ability.
func (e *election) due(now time.Time, peers []Peer, able bool) step {
	s := e.takeover(now, peers, able)
	if e.leader.name != "" {
		s.next = earlier(s.next, e.heard.Add(e.silence()))
	}
	return s
}

func (e *election) takeover(now time.Time, peers []Peer, able bool) step {
	if e.watch || e.retired || !able {
		return step{}
	}
	rank := e.rank(peers)
	if !e.vacant.IsZero() && now.Sub(e.vacant) < e.tuning.Silence {
		at := e.vacant.Add(stagger(rank, e.tuning.HandOver, e.tuning.Silence/2))
		return step{claim: !now.Before(at), next: at}
	}
	// Before it claims a member asks twice who leads: what is silence to it may be
	// a bad link of its own, and then somebody can pass the leader's word on.
	pause := e.pause()
	at := e.heard.Add(e.tuning.Silence + stagger(rank, e.tuning.Stagger, e.tuning.Silence-e.tuning.Stagger))
	if len(peers) == 0 {
		return step{claim: !now.Before(at), next: at}
	}
	first := at.Add(-2 * pause)
	if e.asked.IsZero() {
		if now.Before(first) {
			return step{next: first}
		}
		e.asked = now
		return step{ask: true, next: now.Add(pause)}
	}
	if second := e.asked.Add(pause); now.Before(second) {
		return step{next: second}
	}
	if now.Before(at) {
		s := step{ask: !e.again, next: at}
		e.again = true
		return s
	}
	return step{claim: true}
}

// rank is the number of peers that come before this member, without the one
// whose place is to be taken.
func (e *election) rank(peers []Peer) int {
	gone := e.leader.name
	if gone == "" {
		gone = e.former.name
	}
	n := 0
	for _, p := range peers {
		if p.Name != gone && p.Name != e.self.name && (claim{name: p.Name, priority: p.Priority}).ranksBefore(e.self) {
			n++
		}
	}
	return n
}

// stagger grows with the rank up to a bound, so that a member far down still
// takes over in time when all before it are unable.
func stagger(rank int, each, most time.Duration) time.Duration {
	if d := time.Duration(rank) * each; d < most {
		return d
	}
	return max(most, 0)
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
