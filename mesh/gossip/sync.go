package gossip

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"banmesh/internal/random"
)

// syncer compares roots and runs this member's exchanges, one at a time.
// One exchange at a time is enough: a broken one resumes, and two at once would bring the same records twice.
type syncer struct {
	m    *Mesh
	wake chan struct{}

	mu     sync.Mutex
	wanted map[string]*wish
	// Only needed until this member has settled; it does not grow afterwards.
	met map[string]struct{} // members agreed with, or exchanged with, since the start

	settled atomic.Bool
}

// wish is a planned exchange.
type wish struct {
	due   time.Time
	tries int // failed so far; the pause grows with them
}

// settleWith is how many members are met before this one counts as settled.
// Three members of different routers hold, together, nearly all of what any member holds. More would make a start in a
// half-dead mesh wait for nothing.
const settleWith = 3

func (s *syncer) init(m *Mesh) {
	s.m, s.wake = m, make(chan struct{}, 1)
	s.wanted, s.met = make(map[string]*wish), make(map[string]struct{})
}

// want plans an exchange with a member, after a delay.
func (s *syncer) want(name string, delay time.Duration) {
	due := time.Now().Add(delay)
	s.mu.Lock()
	if w := s.wanted[name]; w == nil {
		if len(s.wanted) < maxPeers {
			s.wanted[name] = &wish{due: due}
		}
		// A wish that has failed before keeps its pause, even if it is repeated for another reason.
	} else if due.Before(w.due) && w.tries == 0 {
		w.due = due
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// due says whether an exchange with a member may run now, or must wait because the last ones were fruitless.
func (s *syncer) due(name string) bool {
	due := true
	s.m.table.with(name, func(p *peer) { due = !time.Now().Before(p.nextSync) })
	return due
}

// joined handles each member that comes up. It plans an exchange with the first few at once; the others are asked for their
// root in due time.
func (s *syncer) joined(name string) {
	s.mu.Lock()
	few := len(s.met)+len(s.wanted) < settleWith
	s.mu.Unlock()
	if few {
		s.want(name, random.Below(s.m.random, 50*time.Millisecond))
	}
}

// observe handles another member's stamp.
func (s *syncer) observe(name string, st stamp) {
	m := s.m
	// The asker's minute counts, not ours: both sides must leave out the same expired records.
	if m.set.Root(st.minute) == st.root {
		m.table.with(name, func(p *peer) { p.agree(time.Now()) })
		s.meet(name)
		return
	}
	var looks int
	var wait time.Duration
	var addr string
	now := time.Now()
	if !m.table.with(name, func(p *peer) {
		p.differing++
		p.compared = now
		looks, addr = p.differing, p.addr
		if looks > 1 {
			p.sync = Differs
		}
		wait = max(0, p.nextSync.Sub(now))
	}) {
		return
	}
	switch {
	// A joiner lacks nearly everything, so that waiting for a second look would only delay it.
	case !s.settled.Load() && looks == 1 && !s.has(name):
		s.want(name, 0)
	case looks == 1:
		// A ban may be on its way, or was lost on it: heads of the logs that grew lately repair that without an exchange.
		m.announceRecent(addr, true)
		m.timers.after(m.jitter(m.tune.RecheckAfter), func() { m.ask(name, addr) })
	case wait == 0:
		s.want(name, 0)
	default:
		// The roots differ for a reason that no exchange repairs. New records must not wait for the next exchange nevertheless.
		m.announceRecent(addr, true)
	}
}

// has reports whether an exchange with that member has completed in this run.
func (s *syncer) has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.met[name]
	return ok
}

// meet counts a member with which nothing is left to exchange.
func (s *syncer) meet(name string) {
	if s.settled.Load() {
		return
	}
	s.mu.Lock()
	s.met[name] = struct{}{}
	s.mu.Unlock()
	s.settle()
}

// settle decides whether the joiner may act: after one completed exchange with
// min(3, alive − 1) members, or when it has tried for long enough.
func (s *syncer) settle() bool {
	if s.settled.Load() {
		return true
	}
	others := s.m.table.alive() - 1
	s.mu.Lock()
	met := len(s.met)
	s.mu.Unlock()
	why := ""
	switch {
	case others > 0 && met >= min(settleWith, others):
		why = "exchanged"
	// The first router of a mesh has nobody to wait for.
	case others == 0 && !s.m.known.hopes():
		why = "alone"
	case time.Since(s.m.started) >= s.m.tune.SettleAfter:
		why = "waited"
	default:
		return false
	}
	if !s.settled.Swap(true) {
		s.m.log.Info("settled", "after", why, "members", others+1, "exchanges", met)
	}
	return true
}

// Settled reports whether this member has heard enough of the mesh to act on what it holds: one completed exchange with min(3,
// alive − 1) members since the start, or 30 s of trying. It stays true.
func (m *Mesh) Settled() bool { return m.sync.settle() }

// InSync reports whether the roots of all alive members are known to agree with the own one. A member that has no others is in
// sync; one whose others all fell silent, or were never met, does not know.
func (m *Mesh) InSync() bool {
	equal, differ, unknown := m.table.agreement()
	if equal+differ+unknown == 0 {
		return !m.known.others() && !m.unmet()
	}
	return differ == 0 && unknown == 0
}

// loop runs the planned exchanges.
func (s *syncer) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for s.m.ctx.Err() == nil {
		name, tries, wait := s.pick()
		if name == "" {
			timer.Reset(wait)
			select {
			case <-s.m.ctx.Done():
			case <-s.wake:
			case <-timer.C:
			}
			continue
		}
		s.make(name, tries)
	}
}

// pick takes one planned exchange that is due, or says how long until one is.
func (s *syncer) pick() (name string, tries int, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait = time.Hour
	now := time.Now()
	// In a map's random order, so that a member which fails each time cannot stand in the way of the others.
	for n, w := range s.wanted {
		if d := w.due.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		delete(s.wanted, n)
		return n, w.tries, 0
	}
	return "", 0, wait
}

// again puts a planned exchange back.
func (s *syncer) again(name string, tries int, delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted[name] == nil {
		s.wanted[name] = &wish{due: time.Now().Add(delay), tries: tries}
	}
}

const (
	maxTries = 5
	// Busy is no failure: the other side serves two at a time, and with a hundred joiners everybody's turn comes late.
	maxBusy   = 20
	maxRepeat = time.Minute
)

// make is one exchange with a member, and arranges the next try if it fails; tries counts those before.
func (s *syncer) make(name string, tries int) {
	m := s.m
	var addr string
	alive := false
	m.table.with(name, func(p *peer) { addr, alive = p.addr, p.state == Alive })
	if !alive {
		return
	}
	res, err := m.exchange(m.ctx, name, addr)
	var busy *busyError
	switch {
	case err == nil:
		m.count.exchanges.Add(1)
		m.table.with(name, func(p *peer) { p.streamed(nil) })
		s.completed(name, res)
		// The next stamp shows whether the exchange has brought agreement; only that clears a difference.
		m.ask(name, addr)
	case m.ctx.Err() != nil:
	// Half of what the other side asked for plus a random part, growing with each fourth refusal: the waiting members spread
	// out.
	case errors.As(err, &busy):
		m.count.drop("exchange busy")
		if tries < maxBusy {
			s.again(name, tries+1, busy.after/2+random.Below(s.m.random, busy.after)<<min(tries/4, 3))
		}
	default:
		m.count.drop("exchange failed")
		m.log.Debug("exchange failed", "with", name, "error", err)
		if errors.Is(err, errStall) {
			m.table.with(name, func(p *peer) { p.stall(errStall) })
		}
		if tries < maxTries {
			s.again(name, tries+1, s.m.jitter(time.Second<<tries))
		}
	}
}

// completed records a finished exchange, made or served.
func (s *syncer) completed(name string, res exchanged) {
	now := time.Now()
	root := s.m.set.Root(s.m.minute())
	s.m.table.with(name, func(p *peer) {
		// Also where nothing was new: it shows that TCP passes, which tells a mute member from a dead one.
		p.stream = now
		if res.same {
			p.agree(now)
			return
		}
		// The own root has not changed since the last time, and yet the other side lacked something: it did not take what was
		// sent.
		repeated := res.chunks > 0 && p.gave == root
		if res.chunks > 0 {
			p.gave = root
		}
		if res.merged > 0 || res.chunks > 0 && !repeated {
			p.fruitless, p.stuck, p.stalls = 0, nil, 0
			p.nextSync = now
			return
		}
		// Neither side had anything new, yet the roots may differ for as long as one side keeps what the other has forgotten,
		// or refuses records over a limit. Do not repeat it every second.
		p.fruitless++
		if repeated {
			p.stall(errUntaken)
		}
		p.nextSync = now.Add(min(time.Second<<min(p.fruitless, 6), maxRepeat))
	})
	if res.own > 0 && res.own <= mostHandedOn {
		s.handOn(name)
	}
	s.meet(name)
}

// mostHandedOn is the largest number of new records in a member's own log that looks like lost pushes rather than a burst,
// which all members exchange anyway.
// A larger number is a burst or a joiner, of which the others have heard by themselves.
const mostHandedOn = 64

// handOn tells the others which logs grew: records that came from their author by stream only, because UDP from there is
// closed, have probably not reached the others either.
func (s *syncer) handOn(from string) {
	for _, t := range s.m.sample(s.m.table.receivers(s.m.tune.DirectMax), s.m.tune.DirectMax) {
		if t.name != from {
			s.m.announceRecent(t.addr, false)
		}
	}
}

// confirm asks members for their stamps, and plans an exchange with those that do not answer in time: UDP to them may have been
// closed since the last probe, and they would lack what was just pushed.
func (s *syncer) confirm(members []target) {
	for _, t := range members {
		s.m.ask(t.name, t.addr)
	}
	s.m.timers.after(answerWithin, s.wantUnanswered)
}

// wantUnanswered plans an exchange with each member that has left a question by UDP unanswered for too long.
func (s *syncer) wantUnanswered() {
	for _, name := range s.m.table.unanswered(time.Now()) {
		if s.due(name) {
			s.want(name, 0)
		}
	}
}
