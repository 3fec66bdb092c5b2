package leader

import (
	"encoding/binary"
	"flag"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banmesh/internal/need"
)

// The whole election of three members is explored: the Elector itself, without its clock, its goroutine and its network. A
// state is followed through every tick with every fault that there is, up to a number of faults; states that are alike but for
// the time, the terms and the numbers of words are one. What must hold in each: no member kills the session of one whose words
// arrive, and when nothing has been wrong for a while there is one leader, whom all follow.

const (
	unit       = 500 * time.Millisecond // of the explored time, a tick
	three      = 3
	staleAfter = 30                   // ticks: 15 s, after which a session may be killed
	calmAfter  = 16                   // ticks without anything wrong within which there must be one leader
	edits      = 3                    // ticks that an edit takes
	rests      = 6                    // ticks between two edits
	horizon    = 40 * unit            // what is further back makes no difference to an election
	born       = int64(1_900_000_000) // when the explored time begins
)

type faultKind uint8

const (
	fNone   faultKind = iota
	fLose             // the a-th word of the tick
	fLate             // the a-th word of the tick comes n ticks later
	fTwice            // the a-th word of the tick comes at once, and again n ticks later
	fCrash            // a, for n ticks
	fFreeze           // a does nothing for n ticks, and then goes on
	fUnable           // a, for n ticks
	fClock            // a's clock steps by n ticks
	fCut              // from a to b, for n ticks
	fAlone            // a, from all, for n ticks
	fLong             // a's edit takes n ticks more
	fLeave            // a leaves, and comes back after n ticks
)

type fault struct {
	kind faultKind
	a, b int8
	n    int8
}

func (f fault) String() string {
	names := [...]string{"", "lose", "late", "twice", "crash", "freeze", "unable", "clock", "cut", "alone", "long", "leave"}
	if f.kind == fNone {
		return ""
	}
	return fmt.Sprintf("%s %d %d for %d", names[f.kind], f.a, f.b, f.n)
}

// nodeFaults are those that do not depend on what is sent.
var nodeFaults = func() (out []fault) {
	for a := range int8(three) {
		for _, n := range []int8{1, 8, 40} {
			out = append(out, fault{fCrash, a, 0, n})
		}
		for _, n := range []int8{4, 12, 40} {
			out = append(out, fault{fFreeze, a, 0, n}, fault{fAlone, a, 0, n})
			for b := range int8(three) {
				if a != b {
					out = append(out, fault{fCut, a, b, n})
				}
			}
		}
		for _, n := range []int8{1, 8} {
			out = append(out, fault{fUnable, a, 0, n})
		}
		for _, n := range []int8{-8, 8, 40} {
			out = append(out, fault{fClock, a, 0, n})
		}
		out = append(out, fault{fLong, a, 0, 40}, fault{fLeave, a, 0, 8})
	}
	return out
}()

// wordFaults are those of the a-th word of a tick.
func wordFaults(out []fault, a int) []fault {
	return append(out, fault{fLose, int8(a), 0, 0}, fault{fLate, int8(a), 0, 1}, fault{fLate, int8(a), 0, 3}, fault{fLate, int8(a), 0, 9},
		fault{fTwice, int8(a), 0, 0}, fault{fTwice, int8(a), 0, 3}, fault{fTwice, int8(a), 0, 9})
}

// mail is a word on its way.
type mail struct {
	in       int8 // ticks
	from, to int8
	h        Heartbeat
}

// place is one member and what surrounds it.
type place struct {
	e      *Elector // nil while it is down
	seq    uint64   // where its next run begins to count
	down   int8     // ticks left
	frozen int8
	unable int8
	shift  time.Duration // how far its clock is ahead
	edit   int8          // ticks left of the open edit
	opened Session
	rest   int8
	inbox  [three]*mail   // the last word of each that came while it was frozen
	heard  [three]int8    // ticks since a word of each arrived
	newest [three]uint64  // number of the newest word of each that has arrived
	says   [three]Session // what that says of its session
	away   bool           // has left
}

// mesh is a state.
type mesh struct {
	ticks  int64
	places [three]place
	mail   []mail
	cut    [three][three]int8
	holder int8 // of the conductor's lock, -1 for nobody
	locked Session
	opened uint64 // sessions until now
	left   int    // faults that may still happen
	calm   int8
	steady bool // the leader has no reason to change: since the last calm there was at most a fault of one word

	sent int   // words of the current tick
	now  fault // of the current tick
	err  error
	log  func(string, ...any)
}

var placeNames = [three]string{"a", "b", "c"}

func placeOf(name string) int8 { return int8(name[0] - 'a') }

// c comes first, then a, then b.
var placeRanks = [three]int{0, 0, 1}

var others = func() (ps [three][]Peer) {
	for i := range ps {
		for j := range three {
			if i != j {
				ps[i] = append(ps[i], Peer{placeNames[j], placeRanks[j]})
			}
		}
	}
	return ps
}()

func newMesh(faults int) *mesh {
	m := &mesh{holder: -1, left: faults}
	for i := range m.places {
		m.places[i].seq = 1
		m.boot(i)
		for j := range three {
			m.places[i].heard[j] = staleAfter + 1
		}
	}
	return m
}

func (m *mesh) fail(format string, args ...any) {
	if m.err == nil {
		m.err = fmt.Errorf(format, args...)
	}
}

// clock is what a member reads.
func (m *mesh) clock(i int) time.Time {
	return time.Unix(born, 0).Add(time.Duration(m.ticks)*unit + m.places[i].shift)
}

func (m *mesh) boot(i int) {
	p := &m.places[i]
	e, err := New(Config{Name: placeNames[i], Priority: placeRanks[i], now: func() time.Time { return time.Unix(born, 0) },
		Peers: func() []Peer { return nil }, Able: func() (bool, string) { return true, "" }, Send: func(string, []byte) error { return nil }})
	if err != nil {
		panic(err)
	}
	e.seq = p.seq
	now := m.clock(i)
	e.election.heard, e.election.since = now, now
	p.e, p.away, p.newest, p.says = e, false, [three]uint64{}, [three]Session{}
}

// copied makes an Elector that goes on on its own. It names every field: TestExplorationKnowsEveryField holds it to that.
func (e *Elector) copied() *Elector {
	el := *e.election
	c := &Elector{cfg: e.cfg, log: e.log, wake: e.wake, election: &el, sessions: sessions{maps.Clone(e.sessions.of)}, order: order{maps.Clone(e.order.last)},
		seq: e.seq, work: e.work, able: e.able, why: e.why, beatAt: e.beatAt, watchAt: e.watchAt, awake: e.awake,
		farewell: e.farewell, unwound: e.unwound, replies: slices.Clone(e.replies), idle: e.idle}
	if e.work.session != (Session{}) {
		c.idle = make(chan struct{})
	}
	return c
}

func (m *mesh) copied() *mesh {
	c := *m
	c.mail = slices.Clone(m.mail)
	for i := range c.places {
		if e := c.places[i].e; e != nil {
			c.places[i].e = e.copied()
		}
	}
	return &c
}

func (m *mesh) drop(i int, keep bool) {
	p := &m.places[i]
	p.seq = p.e.seq + 1<<20
	p.e, p.frozen, p.inbox, p.edit, p.rest = nil, 0, [three]*mail{}, 0, 0
	if int(m.holder) == i && !keep {
		m.holder, m.locked = -1, Session{}
	}
}

// step lets a tick pass, in which a fault happens, and reports whether there was occasion for it.
func (m *mesh) step(f fault) bool {
	m.now, m.sent = f, 0
	if f.kind > fTwice || f.kind != fNone && m.calm < calmAfter {
		m.steady = false
	}
	led := m.leads()
	p := &m.places[f.a%three]
	switch f.kind {
	case fCrash, fFreeze, fClock, fLeave, fUnable, fLong:
		if p.e == nil || p.frozen > 0 {
			return false
		}
	}
	switch f.kind {
	case fCrash:
		// One that is gone for longer has lost its power: the server waits for it.
		m.drop(int(f.a), f.n > 1)
		p.down = f.n
	case fFreeze:
		p.frozen = f.n
	case fUnable:
		p.unable = f.n
	case fClock:
		p.shift += time.Duration(f.n) * unit
	case fCut:
		m.cut[f.a][f.b] = f.n
	case fAlone:
		for j := range three {
			m.cut[f.a][j], m.cut[j][f.a] = f.n, f.n
		}
	case fLong:
		if p.edit == 0 {
			return false
		}
		p.edit += f.n
	case fLeave:
		if p.edit > 0 {
			return false // it waits for that
		}
		m.messages(int(f.a), p.e.retire(m.clock(int(f.a)), others[f.a], nil))
		m.drop(int(f.a), false)
		p.down, p.away = f.n, true
		for j := range three {
			if q := &m.places[j]; q.e != nil && q.frozen == 0 {
				q.e.election.left(m.clock(j), placeNames[f.a])
			}
		}
	}
	calm := f.kind == fNone
	awake := [three]bool{}
	for i := range m.places {
		p := &m.places[i]
		switch {
		case p.e == nil && p.down <= 1:
			p.down = 0
			if int(m.holder) == i { // the server hears of it now
				m.holder, m.locked = -1, Session{}
			}
			m.boot(i)
			awake[i], calm = true, false
		case p.e == nil:
			p.down--
			calm = false
		case p.frozen > 0:
			if p.frozen--; p.frozen == 0 {
				awake[i] = true
			}
			calm = false
		default:
			awake[i] = true
		}
		if p.unable > 0 {
			p.unable--
			calm = false
		}
		if p.edit > edits {
			calm = false
		}
		for j := range three {
			if m.cut[i][j] > 0 {
				m.cut[i][j]--
				calm = false
			}
		}
	}
	for i, up := range awake {
		if up {
			m.commit(i)
		}
	}
	for i, up := range awake {
		if !up {
			continue
		}
		for j, w := range m.places[i].inbox {
			if w != nil {
				m.places[i].inbox[j] = nil
				if placeOf(w.h.Name) == w.from && w.h.state != Asking {
					m.places[i].says[j] = w.h.session
				}
				m.places[i].e.take(m.clock(i), placeNames[j], w.h)
			}
		}
	}
	calm = m.deliver() && calm
	for round := 0; ; round++ {
		for i, up := range awake {
			if up {
				m.turn(i)
			}
		}
		if !slices.ContainsFunc(m.mail, func(w mail) bool { return w.in == 0 }) {
			break
		}
		if round == 8 {
			m.fail("the members go on answering each other within one tick")
			break
		}
		calm = m.deliver() && calm
	}
	for k := range m.mail {
		m.mail[k].in--
		calm = false
	}
	m.ticks++
	for i := range m.places {
		for j := range three {
			m.places[i].heard[j] = min(m.places[i].heard[j]+1, staleAfter+1)
		}
	}
	if m.calm = min(m.calm+1, calmAfter); !calm {
		m.calm = 0
	}
	m.check()
	if m.steady && m.err == nil && m.leads() != led {
		m.fail("the leader changes though no more than one word was lost, late or doubled")
	}
	m.steady = m.steady || m.calm >= calmAfter
	return m.now.kind == fNone || f.kind > fTwice
}

func (m *mesh) turn(i int) {
	p := &m.places[i]
	able, why := p.unable == 0, ""
	if !able {
		why = "cannot"
	}
	peers := others[i]
	for j := range three {
		if m.places[j].away {
			peers = slices.DeleteFunc(slices.Clone(peers), func(q Peer) bool { return q.Name == placeNames[j] })
		}
	}
	led := p.e.election.leader
	messages, _ := p.e.advance(m.clock(i), able, why, peers, nil)
	if m.log != nil && led != p.e.election.leader {
		m.log("      %s follows %q, term %d", placeNames[i], p.e.election.leader.name, p.e.election.leader.term)
	}
	m.messages(i, messages)
}

// messages sends words, one of which may meet with the fault of the tick.
func (m *mesh) messages(i int, messages []message) {
	for _, msg := range messages {
		w := mail{0, int8(i), placeOf(msg.to), msg.h}
		k := m.sent
		m.sent++
		if f := m.now; f.kind >= fLose && f.kind <= fTwice && int(f.a) == k {
			m.now = fault{} // it has happened
			switch f.kind {
			case fLose:
				continue
			case fLate:
				w.in = f.n
			case fTwice:
				m.mail = append(m.mail, w)
				w.in = f.n
			}
		}
		m.mail = append(m.mail, w)
	}
}

// deliver hands over what has arrived, and reports whether nothing of it came late.
func (m *mesh) deliver() bool {
	due := m.mail
	m.mail = nil
	for _, w := range due {
		if w.in > 0 {
			m.mail = append(m.mail, w)
		}
	}
	for _, w := range due {
		p := &m.places[w.to]
		switch {
		case w.in > 0, p.e == nil, m.cut[w.from][w.to] > 0:
			continue
		}
		if n := p.newest[w.from]; placeOf(w.h.Name) == w.from && (w.h.Seq > n || n-w.h.Seq >= late) {
			// A late word from before a restart counts until the next one: nobody can tell which run was the first.
			if w.h.state != Asking {
				if w.h.Seq > n {
					p.heard[w.from] = 0
				}
				if p.frozen == 0 {
					p.says[w.from] = w.h.session
				}
			}
			p.newest[w.from] = w.h.Seq
		}
		if p.frozen > 0 {
			p.inbox[w.from] = &w
			continue
		}
		led := p.e.election.leader
		p.e.take(m.clock(int(w.to)), placeNames[w.from], w.h)
		if m.log != nil {
			m.log("      %s → %s: %s %s term %d session %d age %v", placeNames[w.from], placeNames[w.to], w.h.Name, w.h.state, w.h.Term, w.h.session.ID, w.h.age)
			if led != p.e.election.leader {
				m.log("      %s follows %q, term %d", placeNames[w.to], p.e.election.leader.name, p.e.election.leader.term)
			}
		}
	}
	return true
}

// commit is what the committer of a member does in a tick.
func (m *mesh) commit(i int) {
	p := &m.places[i]
	e := p.e
	if p.edit > 0 {
		p.edit--
		if mine := int(m.holder) == i && m.locked == p.opened; !mine || p.edit == 0 {
			if mine {
				m.holder, m.locked = -1, Session{}
			}
			p.edit, p.rest, p.opened = 0, rests, Session{}
			e.SetWork(Idle, "", Session{}, time.Time{})
		}
		return
	}
	if !e.election.leading || p.unable > 0 {
		if e.work.state == Waiting {
			e.SetWork(Idle, "", Session{}, time.Time{})
		}
		return
	}
	if p.rest > 0 {
		p.rest--
		return
	}
	if m.holder >= 0 && slices.Contains(e.silentAt(m.clock(i), staleAfter*unit), m.locked) {
		o := &m.places[m.holder]
		if m.log != nil {
			m.log("      %s kills the session of %s", placeNames[i], placeNames[m.holder])
		}
		// Two beats are within what an observer of time may get wrong.
		if o.e != nil && o.frozen == 0 && p.heard[m.holder] < staleAfter-4 {
			m.fail("%s kills the session of %s, whose word arrived %v ago", placeNames[i], placeNames[m.holder], time.Duration(p.heard[m.holder])*unit)
		}
		m.holder, m.locked = -1, Session{}
	}
	if m.holder >= 0 {
		e.SetWork(Waiting, "", Session{}, time.Time{})
		return
	}
	m.opened++
	p.edit, p.opened = edits, Session{"n", m.opened}
	m.holder, m.locked = int8(i), p.opened
	p.says = [three]Session{}
	e.SetWork(Committing, "", p.opened, time.Time{})
}

// leads returns who leads, -1 for nobody or where several do.
func (m *mesh) leads() int {
	leader := -1
	for i := range m.places {
		if e := m.places[i].e; e != nil && e.election.leading {
			if leader >= 0 {
				return -1
			}
			leader = i
		}
	}
	return leader
}

// check looks for what must not be.
func (m *mesh) check() {
	leader := -1
	for i := range m.places {
		e := m.places[i].e
		if e == nil {
			continue
		}
		el := e.election
		switch {
		case el.leading && el.leader.name != placeNames[i]:
			m.fail("%s leads and follows %q", placeNames[i], el.leader.name)
		case el.leading && el.leader.term != el.self.term || el.term < el.leader.term || el.term < el.self.term:
			m.fail("%s has the terms %d, %d and %d", placeNames[i], el.term, el.self.term, el.leader.term)
		case el.leading && m.places[i].unable > 0 && m.places[i].frozen == 0:
			m.fail("%s leads and is not able", placeNames[i])
		}
		if el.leading {
			leader = i
		}
		for j, name := range placeNames {
			if got := e.sessions.of[name].session; got != m.places[i].says[j] && m.places[i].frozen == 0 {
				m.fail("%s holds that the open session of %s is %v, whose newest word says %v", placeNames[i], name, got, m.places[i].says[j])
			}
		}
	}
	if m.calm < calmAfter || m.err != nil {
		return
	}
	if leader < 0 {
		m.fail("nobody leads, though nothing has been wrong for %v", calmAfter*unit)
		return
	}
	for i := range m.places {
		if el := m.places[i].e.election; el.leader.name != placeNames[leader] || el.leading != (i == leader) ||
			el.leader.term != m.places[leader].e.election.self.term {
			m.fail("%s leads, and %s follows %q, though nothing has been wrong for %v", placeNames[leader], placeNames[i], el.leader.name, calmAfter*unit)
		}
	}
}

// code writes the state so that two are alike exactly where they cannot be told apart by what comes.
func (m *mesh) code(b []byte) []byte {
	base, bare := uint64(1<<62), false
	term := func(t uint64) {
		if t > 0 {
			base = min(base, t)
		}
	}
	for i := range m.places {
		if e := m.places[i].e; e != nil {
			term(e.election.term)
			bare = bare || e.election.term == 0
			if speaks(e) {
				term(e.election.self.term)
			}
			term(e.election.leader.term)
			term(e.election.former.term)
		}
		for _, w := range m.places[i].inbox {
			if w != nil {
				term(w.h.Term)
			}
		}
	}
	for _, w := range m.mail {
		term(w.h.Term)
	}
	if base--; bare || base >= 1<<61 {
		base = 0
	}
	putTerm := func(t uint64) {
		if t > 0 {
			t -= base
		}
		b = binary.AppendUvarint(b, t)
	}
	putClaim := func(c claim) {
		if c.name == "" {
			b = append(b, 255)
			return
		}
		b = append(b, byte(placeOf(c.name)))
		putTerm(c.term)
	}
	// Of the numbers of words only their order counts, and what is far behind.
	var seqs [three][]uint64
	for i := range m.places {
		if e := m.places[i].e; e != nil {
			seqs[i] = append(seqs[i], e.seq)
			for name, s := range e.order.last {
				seqs[placeOf(name)] = append(seqs[placeOf(name)], s)
			}
		}
		for j, s := range m.places[i].newest {
			seqs[j] = append(seqs[j], s)
		}
		for _, w := range m.places[i].inbox {
			if w != nil && placeOf(w.h.Name) == w.from {
				seqs[w.from] = append(seqs[w.from], w.h.Seq)
			}
		}
	}
	for _, w := range m.mail {
		if placeOf(w.h.Name) == w.from {
			seqs[w.from] = append(seqs[w.from], w.h.Seq)
		}
	}
	for i := range seqs {
		slices.Sort(seqs[i])
		seqs[i] = slices.Compact(seqs[i])
		for k := 1; k < len(seqs[i]); k++ {
			if seqs[i][k]-seqs[i][k-1] >= late/2 {
				b = append(b, 254, byte(k))
			}
		}
	}
	putSeq := func(i int8, s uint64) {
		k, _ := slices.BinarySearch(seqs[i], s)
		b = append(b, byte(k))
	}
	putWord := func(w *mail) {
		b = append(b, byte(w.in), byte(w.from), byte(w.to), byte(placeOf(w.h.Name)), byte(w.h.state), byte(w.h.age/(unit/4)))
		putTerm(w.h.Term)
		if placeOf(w.h.Name) == w.from {
			putSeq(w.from, w.h.Seq)
		}
		b = append(b, m.sameSession(w.h.session))
	}
	for i := range m.places {
		p := &m.places[i]
		b = append(b, byte(p.down), byte(p.frozen), byte(p.unable), byte(p.edit), byte(p.rest), m.sameSession(p.opened))
		for j := range three {
			b = append(b, byte(p.heard[j]), byte(m.cut[i][j]))
			putSeq(int8(j), p.newest[j])
			b = append(b, m.sameSession(p.says[j]))
			if w := p.inbox[j]; w != nil {
				putWord(w)
			} else {
				b = append(b, 253)
			}
		}
		if p.e == nil {
			continue
		}
		e, el, now := p.e, p.e.election, m.clock(i)
		at := func(t time.Time, most time.Duration) {
			if t.IsZero() {
				b = append(b, 0xff, 0x7f)
				return
			}
			d := max(t.Sub(now), -most)
			b = binary.LittleEndian.AppendUint16(b, uint16(int16(d/(unit/4))))
		}
		putTerm(el.term)
		if speaks(e) {
			putTerm(el.self.term)
		}
		putClaim(el.leader)
		flags := byte(0)
		for k, set := range []bool{el.leading, el.retired, el.again, e.unwound, e.work.session != Session{}, p.away, !el.leading} {
			if set {
				flags |= 1 << k
			}
		}
		b = append(b, flags, byte(e.work.state), byte(e.farewell))
		if !el.leading {
			at(el.heard, horizon)
			at(el.direct, el.silence())
			at(el.asked, horizon)
			b = append(b, byte(el.work.state), m.sameSession(el.work.session))
		}
		if !el.vacant.IsZero() && now.Sub(el.vacant) < horizon {
			at(el.vacant, horizon)
		}
		putClaim(el.former)
		at(e.beatAt, 4*unit)
		at(e.awake, 8*unit)

		for j := range three {
			if s, ok := e.order.last[placeNames[j]]; ok {
				putSeq(int8(j), s)
			} else {
				b = append(b, 252)
			}
			if a, ok := e.sessions.of[placeNames[j]]; ok {
				b = append(b, m.sameSession(a.session))
				at(a.at, (staleAfter+1)*unit)
			} else {
				b = append(b, 251)
			}
		}
		for _, l := range e.replies {
			putWord(&mail{0, int8(i), placeOf(l.to), l.h})
		}
	}
	b = append(b, 250)
	for k := range m.mail {
		putWord(&m.mail[k])
	}
	if m.steady {
		b = append(b, 249)
	}
	return append(b, byte(m.holder), byte(m.left), byte(m.calm))
}

// speaks reports whether the term of the own claim is still sent.
func speaks(e *Elector) bool {
	return e.election.leading || e.farewell > 0 || e.unwound || e.work.session != Session{}
}

func (m *mesh) sameSession(s Session) byte {
	switch s {
	case Session{}:
		return 0
	case m.locked:
		return 1
	}
	return 2
}

// seen is a set of states by their hashes.
type seen struct {
	slots []uint64
	n     int
}

func newSeen(most int) *seen {
	size := 1 << 16
	for size < 2*most {
		size *= 2
	}
	return &seen{slots: make([]uint64, size)}
}

func (s *seen) add(h uint64) bool {
	h = max(h, 1)
	for i := h & uint64(len(s.slots)-1); ; i = (i + 1) & uint64(len(s.slots)-1) {
		switch s.slots[i] {
		case h:
			return false
		case 0:
			s.slots[i] = h
			s.n++
			return true
		}
	}
}

// path is how a state was reached.
type path struct {
	before *path
	fault  fault
}

type found struct {
	at  *path
	err error
}

// search visits states by several workers at once.
type search struct {
	most  int
	until time.Time

	mu      sync.Mutex
	more    sync.Cond // on mu: there is work, or an end
	visited *seen
	stack   []todo
	busy    int // workers that may yet find more
	steps   int
	cut     bool // most of them are visited, or the time is over
	bad     *found
	rnd     *rand.Rand
}

// todo is a state whose successors are still to be visited.
type todo struct {
	m  *mesh
	at *path
}

// next returns a state to go on from; ok is false at the end.
func (s *search) next() (t todo, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.stack) == 0 && s.busy > 0 && s.bad == nil && !s.cut {
		s.more.Wait()
	}
	s.cut = s.cut || len(s.stack) > 0 && (s.visited.n >= s.most || time.Now().After(s.until))
	if len(s.stack) == 0 || s.bad != nil || s.cut {
		s.more.Broadcast()
		return t, false
	}
	// Mostly the last one, which keeps the stack short; now and then any, so that a part of all is a part of everything.
	k := len(s.stack) - 1
	if s.rnd.IntN(64) == 0 {
		k = s.rnd.IntN(len(s.stack))
	}
	t = s.stack[k]
	s.stack[k] = s.stack[len(s.stack)-1]
	s.stack = s.stack[:len(s.stack)-1]
	s.busy++
	return t, true
}

// worker follows states through each tick with each fault.
func (s *search) worker(hashes maphash.Seed, rnd *rand.Rand) {
	type child struct {
		hash uint64
		todo
	}
	var (
		buf      []byte
		tries    []fault
		children []child
		steps    int
		bad      *found
	)
	visit := func(from todo, f fault) (sent int) {
		m := from.m.copied()
		if f.kind != fNone {
			m.left--
		}
		steps++
		if !m.step(f) {
			return m.sent
		}
		if m.err != nil {
			bad = &found{&path{from.at, f}, m.err}
			return m.sent
		}
		buf = m.code(buf[:0])
		children = append(children, child{maphash.Bytes(hashes, buf), todo{m, &path{from.at, f}}})
		return m.sent
	}
	for {
		from, ok := s.next()
		if !ok {
			return
		}
		children, steps = children[:0], 0
		sent := visit(from, fault{})
		if from.m.left > 0 && bad == nil {
			tries = append(tries[:0], nodeFaults...)
			for a := range sent {
				tries = wordFaults(tries, a)
			}
			rnd.Shuffle(len(tries), func(i, j int) { tries[i], tries[j] = tries[j], tries[i] })
			for _, f := range tries {
				if visit(from, f); bad != nil {
					break
				}
			}
		}
		s.mu.Lock()
		for _, c := range children {
			if s.visited.add(c.hash) {
				s.stack = append(s.stack, c.todo)
			}
		}
		s.steps += steps
		if s.bad == nil {
			s.bad = bad
		}
		s.busy--
		s.more.Broadcast()
		s.mu.Unlock()
	}
}

// explore visits states, each once, until all with that many faults are visited, most of them are, or the time is over.
func explore(faults, most int, until time.Time, seed uint64) (states, steps int, all bool, bad *found) {
	s := &search{most: most, until: until, visited: newSeen(most), stack: []todo{{newMesh(faults), nil}}, rnd: rand.New(rand.NewPCG(seed, 0))}
	s.more.L = &s.mu
	hashes := maphash.MakeSeed()
	var workers sync.WaitGroup
	for k := range runtime.GOMAXPROCS(0) {
		workers.Go(func() { s.worker(hashes, rand.New(rand.NewPCG(seed, uint64(k)+1))) })
	}
	workers.Wait()
	return s.visited.n, s.steps, !s.cut && s.bad == nil, s.bad
}

// replay tells how a state was reached.
func (f *found) String() string {
	var faults []fault
	for p := f.at; p != nil; p = p.before {
		faults = append(faults, p.fault)
	}
	slices.Reverse(faults)
	var b strings.Builder
	m := newMesh(len(faults))
	m.log = func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	for k, x := range faults {
		fmt.Fprintf(&b, "%5.1f s %s\n", float64(k)/2, x)
		m.step(x)
	}
	lines := strings.Split(b.String(), "\n")
	return fmt.Sprintf("%v, after\n%s", f.err, strings.Join(lines[max(0, len(lines)-150):], "\n"))
}

var (
	exploreFaults = flag.Int("faults", 2, "faults of one history that TestSoakElection explores")
	exploreStates = flag.Int("states", 12_000_000, "states that TestSoakElection visits at most")
)

// TestElectionWithOneFault visits every state that one fault leads to, and then some of those that two and three do.
func TestElectionWithOneFault(t *testing.T) {
	begun := time.Now()
	states, steps, all, bad := explore(1, 1<<20, begun.Add(60*time.Second), 1)
	if bad != nil {
		t.Fatal(bad)
	}
	t.Logf("%d states, %d steps in %v, all of them: %v", states, steps, time.Since(begun), all)
	if !all {
		t.Errorf("one fault leads to more than %d states", states)
	}
	need.Long(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // the same seed visits the same states
	seed := need.Seed(t)
	for faults := 2; faults <= 3; faults++ {
		states, steps, _, bad := explore(faults, 60_000, time.Now().Add(time.Minute), seed)
		t.Logf("%d faults: %d states, %d steps", faults, states, steps)
		if bad != nil {
			t.Fatal(bad)
		}
	}
}

// TestSoakElection visits the states that more faults lead to.
func TestSoakElection(t *testing.T) {
	limit := need.Soak(t)
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	begun := time.Now()
	states, steps, all, bad := explore(*exploreFaults, *exploreStates, begun.Add(limit), need.Seed(t))
	t.Logf("%d faults: %d states, %d steps in %v, all of them: %v; %.0f states/s", *exploreFaults, states, steps, time.Since(begun), all, float64(states)/time.Since(begun).Seconds())
	if bad != nil {
		t.Fatal(bad)
	}
}

// TestExplorationKnowsEveryField fails where a field is added that copied and code do not know.
func TestExplorationKnowsEveryField(t *testing.T) {
	for _, c := range []struct {
		of   any
		want int
	}{{Elector{}, 19}, {election{}, 15}, {Heartbeat{}, 9}, {sessions{}, 1}, {order{}, 1}, {announced{}, 2}, {claim{}, 3}} {
		if got := reflect.TypeOf(c.of).NumField(); got != c.want {
			t.Errorf("%T has %d fields, the exploration knows %d: look at copied and at code", c.of, got, c.want)
		}
	}
}
