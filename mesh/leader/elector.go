package leader

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/internal/random"
)

// Elector is one member's part in the election. New makes it, Run starts it. All methods may be called at any time from any
// goroutine.
type Elector struct {
	cfg  Config
	log  *slog.Logger
	wake chan struct{} // holds one: Run has something to do

	mu       sync.Mutex // guards memory only; never held during a call out
	election *election
	sessions sessions
	order    order
	seq      uint64    // of the last heartbeat sent
	work     Heartbeat // own state, detail, session, until
	able     bool
	why      string
	beatAt   time.Time // next heartbeat
	watchAt  time.Time // next heartbeat to the observers
	awake    time.Time // when this member last did anything in the election
	farewell int       // how many announcements of having resigned are still to be sent
	unwound  bool      // the last heartbeat said that an edit is being finished
	taken    Taken     // the last time that the lead was
	replies  []message
	idle     chan struct{} // closed while no edit is open
}

// Taken is a lead that one member took from another, which this member had just heard and which had not resigned. An honest
// member asks the others first, so its network was interrupted for seconds, or it is not honest.
type Taken struct {
	By, From string // "" for never
	At       time.Time
}

// established is how long a member must have led for its lead to be taken from it: until then members may still disagree.
const established = 10 * time.Second

// message is a heartbeat on its way.
type message struct {
	to string
	h  Heartbeat
}

// farewells is how often a leader announces its resignation, since a packet may be lost.
const farewells = 3

// maxReplies bounds the answers between two turns of Run.
const maxReplies = 256

// New returns an Elector that does nothing before Run.
func New(cfg Config) (*Elector, error) {
	if cfg.now == nil {
		cfg.now = time.Now
	}
	if cfg.tuning == (tuning{}) {
		cfg.tuning = defaultTuning()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	e := &Elector{cfg: cfg, log: cfg.Logger, wake: make(chan struct{}, 1), idle: make(chan struct{})}
	close(e.idle)
	e.seq = random.New(cfg.Random).Uint64() // a random start, so that no heartbeat of this run looks older than one of the last
	e.election = newElection(cfg.Name, cfg.Priority, cfg.Observer, cfg.tuning, cfg.now())
	e.why = "not started"
	return e, nil
}

// Run takes part in the election until ctx ends. It first listens for as long as a leader may be silent. It returns nil.
func (e *Elector) Run(ctx context.Context) error {
	e.mu.Lock()
	e.election.heard = e.cfg.now()
	e.mu.Unlock()
	timer := time.NewTimer(0)
	var told Status
	for {
		next := e.turn()
		if s := e.Status(); changed(told, s) {
			if told.Leader != s.Leader || told.Term != s.Term {
				e.log.Info("leader", "leader", s.Leader, "term", s.Term, "self", s.Self)
			}
			told = s
			if e.cfg.OnChange != nil {
				e.cfg.OnChange(s)
			}
		}
		timer.Reset(max(next.Sub(e.cfg.now()), 0))
		select {
		case <-ctx.Done():
			e.stop(told)
			return nil
		case <-e.wake:
		case <-timer.C:
		}
	}
}

// stop ends this member's leadership without telling anybody; Resign does that.
func (e *Elector) stop(told Status) {
	e.mu.Lock()
	if e.election.leading {
		e.election.vacate(e.cfg.now())
	}
	e.able, e.why = false, "stopped"
	e.mu.Unlock()
	if s := e.Status(); changed(told, s) && e.cfg.OnChange != nil {
		e.cfg.OnChange(s)
	}
}

func changed(a, b Status) bool {
	return a.Leader != b.Leader || a.Term != b.Term || a.Self != b.Self || a.Eligible != b.Eligible || a.Why != b.Why
}

// turn does what is due and returns when to look again.
func (e *Elector) turn() time.Time {
	able, why := false, "not configured to lead"
	if !e.cfg.Observer {
		if able, why = e.cfg.Able(); able {
			why = ""
		}
	}
	peers, observers := e.cfg.Peers(), e.observers()
	now := e.cfg.now()
	e.mu.Lock()
	messages, next := e.advance(now, able, why, peers, observers)
	e.mu.Unlock()
	for _, m := range messages {
		e.send(m)
	}
	return next
}

// advance does what is due at a given time, given the results of the calls out, and returns what to send and when to look
// again. It is called with mu held and has no other effects, so that a test can explore it.
func (e *Elector) advance(now time.Time, able bool, why string, peers []Peer, observers []string) (messages []message, next time.Time) {
	e.notice(now)
	if e.election.retired {
		able, why = false, "leaving"
	}
	e.able, e.why = able, why
	messages, e.replies = e.replies, nil
	if e.election.leading && !able {
		e.resign(now, why)
	}
	e.election.quiet(now)
	next = now.Add(e.cfg.tuning.Beat)
	if !e.election.leading {
		s := e.election.due(now, peers, able)
		if s.claim {
			e.election.lead(now)
			e.farewell, e.beatAt, e.watchAt = 0, now, now
		} else {
			next = earlier(next, s.next)
		}
		if s.ask {
			e.seq++
			messages = e.toPeers(messages, peers, Heartbeat{Seq: e.seq, Term: e.election.term, Name: e.cfg.Name, Priority: e.cfg.Priority, state: Asking})
		}
	}
	if h, ok := e.word(); ok {
		if !now.Before(e.beatAt) {
			messages = e.toPeers(messages, peers, h)
			watchers := h.state == Unable || !now.Before(e.watchAt)
			if watchers {
				messages = e.toObservers(messages, observers, h)
			}
			e.spoken(now, h, watchers)
		}
		next = earlier(next, e.beatAt)
	}
	return messages, next
}

// word returns the heartbeat to send on each beat, if any.
func (e *Elector) word() (Heartbeat, bool) {
	h := e.work
	e.seq++
	h.Seq = e.seq
	h.Term, h.Name, h.Priority = e.election.self.term, e.cfg.Name, e.cfg.Priority
	switch {
	case e.election.leading:
		if h.state == Unable { // only a resigning leader may announce this
			h.state = Idle
		}
	case e.farewell > 0:
		h.state, h.detail = Unable, e.why
	case h.session != (Session{}), e.unwound:
		// A member that ends its edit under the lock must not look frozen.
		h.state = Finishing
	default:
		return Heartbeat{}, false
	}
	return h, true
}

// spoken notes that a heartbeat has been sent to the peers.
func (e *Elector) spoken(now time.Time, h Heartbeat, watchers bool) {
	e.beatAt = now.Add(e.cfg.tuning.Beat)
	if watchers {
		e.watchAt = now.Add(e.cfg.tuning.Observe)
	}
	if h.state == Unable {
		e.farewell--
		e.beatAt = now.Add(e.cfg.tuning.HandOver / 2)
	}
	e.unwound = h.state == Finishing && h.session != (Session{})
}

func (e *Elector) toPeers(messages []message, peers []Peer, h Heartbeat) []message {
	for _, p := range peers {
		if p.Name != e.cfg.Name {
			messages = append(messages, message{p.Name, h})
		}
	}
	return messages
}

func (e *Elector) toObservers(messages []message, names []string, h Heartbeat) []message {
	for _, name := range names {
		messages = append(messages, message{name, h})
	}
	return messages
}

func (e *Elector) observers() []string {
	if e.cfg.Observers == nil {
		return nil
	}
	return e.cfg.Observers()
}

// send does not retry: the next heartbeat comes soon and says more.
func (e *Elector) send(m message) {
	b, err := m.h.Encode()
	if err == nil {
		err = e.cfg.Send(m.to, b)
	}
	if err != nil {
		e.log.Debug("heartbeat not sent", "to", m.to, "err", err)
	}
}

// resign gives up leadership and lets the others be told.
func (e *Elector) resign(now time.Time, why string) {
	e.log.Info("leadership given up", "term", e.election.self.term, "why", why)
	e.election.resign(now)
	e.farewell, e.beatAt = farewells, now
}

// Receive handles a payload from a member.
func (e *Elector) Receive(from string, payload []byte) {
	h, err := decode(payload)
	if err != nil {
		e.log.Debug("heartbeat ignored", "from", from, "err", err)
		return
	}
	if e.cfg.Ignore != nil && (e.cfg.Ignore(from) || e.cfg.Ignore(h.Name)) {
		return
	}
	now := e.cfg.now()
	e.mu.Lock()
	wake := e.take(now, from, h)
	e.mu.Unlock()
	if wake {
		e.kick()
	}
}

// take handles a heartbeat, with mu held, and reports whether there is something to do at once.
func (e *Elector) take(now time.Time, from string, h Heartbeat) (wake bool) {
	e.notice(now)
	// A member that has just started knows no term, and accepts any.
	if known := e.election.term; known > 0 && h.Term > max(honestTerm, known+termStep) {
		e.log.Debug("heartbeat ignored: its term is out of reach", "from", from, "term", h.Term)
		return false
	}
	if from == h.Name && !e.order.fresh(from, h.Seq) {
		return false
	}
	led, followed, since, direct := e.election.leading, e.election.leader, e.election.since, e.election.direct
	answer := e.election.receive(now, from, h)
	switch by := e.election.leader.name; {
	case h.state == Unable && from == e.taken.From:
		e.taken = Taken{} // it had resigned: the word was overtaken on the way
	case by != "" && by != followed.name && !led && now.Sub(direct) < e.cfg.tuning.Silence/2 && now.Sub(since) >= established:
		e.taken = Taken{By: by, From: followed.name, At: now}
	}
	if from == h.Name && h.state != Asking && from != e.cfg.Name {
		e.sessions.note(now, from, h.session)
	}
	if len(e.replies) < maxReplies {
		switch answer {
		case replyClaim:
			if w, ok := e.word(); ok {
				e.replies = append(e.replies, message{from, w})
			}
		case replyPass:
			e.replies = append(e.replies, message{from, e.election.passOn(now)})
		}
	}
	if led && !e.election.leading {
		e.beatAt = now // tell at once that an open edit is being finished
	}
	return answer != replyNone || led != e.election.leading || followed != e.election.leader
}

// MemberLeft notes that a member has left the mesh properly. A member that only seems to have failed is left to its silence.
func (e *Elector) MemberLeft(name string) {
	e.mu.Lock()
	e.election.left(e.cfg.now(), name)
	if name == e.taken.From {
		e.taken = Taken{}
	}
	e.mu.Unlock()
	e.kick()
}

// SetWork announces what this member's committer does. state is Idle, Committing, Waiting or Unable; Unable makes the Elector
// ask Able at once. session is the open edit, zero without one; a session given with Committing says that the lock has been
// taken. until is when Committing gives up.
func (e *Elector) SetWork(state State, detail string, session Session, until time.Time) {
	e.mu.Lock()
	w := Heartbeat{state: state, detail: excerpt.Cut(detail, maxDetail), session: session, until: until}
	if state == Committing && session != (Session{}) {
		e.sessions.forget()
	}
	if busy := e.work.session != (Session{}); busy != (session != Session{}) {
		if busy {
			close(e.idle)
		} else {
			e.idle = make(chan struct{})
		}
	}
	if w != e.work {
		e.beatAt = time.Time{} // others must know a session before its holder can freeze
	}
	e.work = w
	e.mu.Unlock()
	e.kick()
}

// Recheck makes the Elector ask Able and Peers at once instead of at its next beat.
func (e *Elector) Recheck() { e.kick() }

// kick has the loop look at once whether this member can lead.
func (e *Elector) kick() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Status returns who leads, as far as this member knows.
func (e *Elector) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Status{Leader: e.election.leader.name, Term: e.election.leader.term, Since: e.election.since,
		Self: e.election.leading, Eligible: e.able, Why: e.why,
		Work: e.election.work.state, detail: e.election.work.detail, until: e.election.work.until}
	if s.Leader == "" {
		s.Term = e.election.term
	}
	if s.Self {
		s.Work, s.detail, s.until = e.work.state, e.work.detail, e.work.until
	}
	return s
}

// Taken returns the last lead that was taken from a member that still led, zero for none.
func (e *Elector) Taken() Taken {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.taken
}

// Resign gives up leadership for good, for a clean leave: it tells the others before it returns, and one of them takes over
// at once. It then waits until an open edit ends or ctx does.
func (e *Elector) Resign(ctx context.Context) {
	peers, observers := e.cfg.Peers(), e.observers()
	now := e.cfg.now()
	e.mu.Lock()
	messages := e.retire(now, peers, observers)
	idle := e.idle
	e.mu.Unlock()
	for _, m := range messages {
		e.send(m)
	}
	e.kick()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// retire gives up leadership for good, with mu held, and returns what to send.
func (e *Elector) retire(now time.Time, peers []Peer, observers []string) (messages []message) {
	e.election.retired = true
	if e.election.leading {
		e.why = "leaving"
		e.resign(now, e.why)
		h, _ := e.word()
		messages = e.toObservers(e.toPeers(messages, peers, h), observers, h)
		e.spoken(now, h, true)
	}
	return messages
}

// Vacant reports whether nobody is heard leading, so that this member may be about to claim, and since when.
func (e *Elector) Vacant() (since time.Time, vacant bool) {
	now := e.cfg.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	since = e.election.heard
	return since, !e.election.leading && (e.election.leader.name == "" || now.Sub(since) > e.cfg.tuning.Silence/2)
}

// Silent returns the sessions that other members announced as leaders and that may still be open, although their members have
// been silent for d. Sessions announced before this member last got the lock are excluded: they cannot hold it.
func (e *Elector) Silent(d time.Duration) []Session {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.silentAt(e.cfg.now(), d)
}

// notice detects that this member itself has been away, for example frozen. It heard nobody meanwhile, and unread messages
// may be waiting, so that time does not count as anybody's silence.
func (e *Elector) notice(now time.Time) {
	if gap := now.Sub(e.awake); !e.awake.IsZero() && gap > e.cfg.tuning.Silence {
		e.sessions.excuse(gap)
	}
	e.awake = now
}

// silentAt is Silent at a moment, with mu held.
func (e *Elector) silentAt(now time.Time, d time.Duration) []Session {
	e.notice(now)
	return e.sessions.silent(now, d, e.cfg.tuning.Remember)
}
