package leader

import (
	"time"
)

// claim is the right to lead. Of two claims, the one that beats the other counts.
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

// beats is a total order, so that members who hear of two claims in different order end with the same one.
func (c claim) beats(o claim) bool {
	if c.term != o.term {
		return c.term > o.term
	}
	return c.ranksBefore(o)
}

// election is one member's view of who leads: a state machine without clock, network or lock. Callers pass the time.
type election struct {
	self   claim // its term is that of the own claim while leading
	tuning tuning
	watch  bool // observes: never claims

	term    uint64 // highest seen, including own ones
	leader  claim  // name "" while none is known
	work    Heartbeat
	since   time.Time // of leader
	leading bool
	retired bool // has left the mesh: never claims again

	// heard is when the leader's last heartbeat reached this member, or the member that passed it on. Without a leader, it is
	// the time from which silence counts.
	heard  time.Time
	direct time.Time // last heartbeat from the leader itself, zero, which is long ago, if none or no leader
	vacant time.Time // since when the leader is known to be gone, zero, which is long ago, if it is only silent
	former claim     // who held the vacant place
	asked  time.Time // first question during this silence, zero before it
	again  bool      // the second one has been sent too, if asked is set
}

func newElection(name string, priority int, watch bool, t tuning, now time.Time) *election {
	return &election{self: claim{name: name, priority: priority}, tuning: t, watch: watch, heard: now, since: now}
}

// silence is how long a member waits for a heartbeat of the leader.
func (e *election) silence() time.Duration {
	if e.watch {
		return 2*e.tuning.Observe + e.tuning.Silence
	}
	return e.tuning.Silence
}

// pause is the time between a question and the next step.
func (e *election) pause() time.Duration { return e.tuning.Silence / 6 }

// reply says how to answer a received heartbeat.
type reply uint8

const (
	replyNone  reply = iota
	replyClaim       // send the own claim to the sender
	replyPass        // tell the sender whom this member follows
)

// receive handles a heartbeat that member from sent. It may be about another member, if it was passed on.
func (e *election) receive(now time.Time, from string, h Heartbeat) reply {
	e.term = max(e.term, h.Term)
	if h.Name == e.self.name {
		// This is our own claim from before a restart: only its term matters.
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
		return replyNone // passed on, and too old to count
	case c.name == e.former.name && c.term <= e.former.term && now.Sub(e.vacant) < e.silence():
		return replyNone // a late heartbeat of a leader that has resigned, or passed on by a member that has not heard of it
	}
	direct := from == h.Name
	if e.leading || e.leader.name != c.name {
		e.leading, e.since, e.heard, e.direct = false, now, heard, time.Time{}
		e.work, e.asked = h, time.Time{}
	}
	e.leader, e.vacant, e.former = c, time.Time{}, claim{}
	if heard.After(e.heard) {
		// Answers that are barely newer than what this member knows must not make it ask again.
		if direct || heard.Sub(e.heard) > e.pause() {
			e.asked = time.Time{}
		}
		e.heard = heard
	}
	if direct {
		e.direct, e.work = now, h
	}
	return replyNone
}

// answer names the leader only if this member leads or has heard it directly. Otherwise two members could keep confirming to each
// other a leader that is long dead.
func (e *election) answer(now time.Time) reply {
	switch {
	case e.leading:
		return replyClaim
	case now.Sub(e.direct) < e.silence():
		return replyPass
	}
	return replyNone
}

// passOn returns the heartbeat that replyPass sends.
func (e *election) passOn(now time.Time) Heartbeat {
	h := e.work
	h.Term, h.Name, h.Priority = e.leader.term, e.leader.name, e.leader.priority
	h.age = max(now.Sub(e.direct), 0)
	return h
}

// left notes that a member has left the mesh properly.
func (e *election) left(now time.Time, name string) {
	if !e.leading && name == e.leader.name {
		e.vacate(now)
	}
}

// vacate notes that the leader has given up its place. Its successor may claim without waiting for a silence.
func (e *election) vacate(now time.Time) {
	e.former, e.vacant = e.leader, now
	e.leader, e.since, e.leading, e.work = claim{}, now, false, Heartbeat{}
	e.heard, e.direct, e.asked = now, time.Time{}, time.Time{}
}

// resign gives up this member's leadership.
func (e *election) resign(now time.Time) {
	e.vacate(now)
	// The others go first: this member has just found that it cannot lead.
	e.vacant = now.Add(e.tuning.HandOver)
}

// lead makes this member's claim.
func (e *election) lead(now time.Time) {
	e.term++
	e.self.term = e.term
	e.leader, e.since, e.leading, e.work = e.self, now, true, Heartbeat{}
	e.heard, e.direct, e.vacant, e.former = now, time.Time{}, time.Time{}, claim{}
	e.asked = time.Time{}
}

// quiet forgets a leader that has been silent for too long.
func (e *election) quiet(now time.Time) {
	if e.leading || e.leader.name == "" || now.Sub(e.heard) < e.silence() {
		return
	}
	e.former = e.leader
	e.leader, e.since, e.direct, e.work = claim{}, now, time.Time{}, Heartbeat{}
}

// step says what to do now, and when to look again.
type step struct {
	ask, claim bool
	next       time.Time // zero: nothing to wait for
}

// due tells a member that does not lead what to do. able says whether it could lead.
func (e *election) due(now time.Time, peers []Peer, able bool) step {
	s := e.takeover(now, peers, able)
	if e.leader.name != "" {
		s.next = earlier(s.next, e.heard.Add(e.silence()))
	}
	return s
}

// takeover decides what a member without a leader does next: wait, ask, or claim. Better-ranked members wait
// less, so that usually one claims and the others follow; nothing breaks if two do. After a leader that said
// goodbye (vacant) there is no silence to wait for.
func (e *election) takeover(now time.Time, peers []Peer, able bool) step {
	if !able {
		return step{}
	}
	rank := e.rank(peers)
	if now.Sub(e.vacant) < e.tuning.Silence {
		at := e.vacant.Add(stagger(rank, e.tuning.HandOver, e.tuning.Silence/2))
		return step{claim: !now.Before(at), next: at}
	}
	// Before it claims, a member asks twice who leads. The silence may come from a bad link of its own; then somebody else
	// can pass the leader's heartbeat on.
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
		e.asked, e.again = now, false
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

// rank is the number of peers that come before this member, not counting the one to be replaced.
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

// stagger grows with the rank up to a bound, so that a low-ranked member still takes over in time if all before it are
// unable.
func stagger(rank int, each, most time.Duration) time.Duration {
	if d := time.Duration(rank) * each; d < most {
		return d
	}
	return max(most, 0)
}

// earlier takes zero for never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
