package leader

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fleet is a set of members on a network that delays, drops and reorders.
type fleet struct {
	t       *testing.T
	loss    float64
	latency time.Duration // of one word: random, up to this

	mu      sync.Mutex
	rnd     *rand.Rand
	members map[string]*member
	side    map[string]int     // partition: who is on which side
	cut     map[[2]string]bool // single links, one way
	sent    map[string]int     // words by sender
	history []string           // changes, for a failure's message
	start   time.Time
}

type member struct {
	name     string
	priority int
	observer bool
	*Elector
	able    bool
	alive   bool
	gone    bool // left properly: not among the others' peers
	stop    context.CancelFunc
	done    chan struct{}
	led     int // how often it became leader
	seen    []Status
	changes int
}

func newFleet(t *testing.T) *fleet {
	return &fleet{t: t, latency: 5 * time.Millisecond, rnd: rand.New(rand.NewPCG(1, 2)), members: map[string]*member{},
		side: map[string]int{}, cut: map[[2]string]bool{}, sent: map[string]int{}, start: time.Now()}
}

func (f *fleet) add(name string, priority int) *member {
	m := &member{name: name, priority: priority, able: true}
	f.admit(m)
	return m
}

func (f *fleet) admit(m *member) {
	f.mu.Lock()
	f.members[m.name] = m
	f.mu.Unlock()
	f.boot(m)
}

// boot starts the member anew, with nothing remembered.
func (f *fleet) boot(m *member) {
	e, err := New(Config{Name: m.name, Priority: m.priority, Observer: m.observer,
		Peers:     func() []Peer { return f.peers(m.name) },
		Observers: func() []string { return f.observers(m.name) },
		Able: func() (bool, string) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if !m.able {
				return false, "conductor unreachable"
			}
			return true, ""
		},
		Send:     func(to string, b []byte) error { f.deliver(m, to, b); return nil },
		OnChange: func(s Status) { f.changed(m, s) },
	})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	f.mu.Lock()
	m.Elector, m.stop, m.done, m.alive, m.gone, m.seen = e, stop, make(chan struct{}), true, false, nil
	done := m.done
	f.mu.Unlock()
	go func() {
		defer close(done)
		if err := e.Run(ctx); err != nil {
			f.t.Error(err)
		}
	}()
}

func (f *fleet) crash(m *member) {
	f.mu.Lock()
	m.alive = false
	f.mu.Unlock()
	m.stop()
	<-m.done
}

// leave is the agent's clean stop: resign, then the mesh tells of the leave.
func (f *fleet) leave(m *member) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	m.Resign(ctx)
	f.mu.Lock()
	m.gone = true
	others := f.living()
	f.mu.Unlock()
	for _, o := range others {
		if o != m {
			o.MemberLeft(m.name)
		}
	}
	f.crash(m)
}

func (f *fleet) living() []*member {
	var ms []*member
	for _, m := range f.members {
		if m.alive {
			ms = append(ms, m)
		}
	}
	slices.SortFunc(ms, func(a, b *member) int { return slices.Compare([]byte(a.name), []byte(b.name)) })
	return ms
}

// peers includes the crashed: the mesh takes longer to notice than the election.
func (f *fleet) peers(of string) []Peer {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ps []Peer
	for _, m := range f.members {
		if m.name != of && !m.gone && !m.observer {
			ps = append(ps, Peer{m.name, m.priority})
		}
	}
	return ps
}

func (f *fleet) observers(of string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for _, m := range f.members {
		if m.name != of && m.observer {
			names = append(names, m.name)
		}
	}
	return names
}

func (f *fleet) deliver(from *member, to string, b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent[from.name]++
	if !from.alive || f.side[from.name] != f.side[to] || f.cut[[2]string{from.name, to}] || f.rnd.Float64() < f.loss {
		return
	}
	b = slices.Clone(b)
	time.AfterFunc(time.Duration(f.rnd.Int64N(int64(f.latency)+1)), func() {
		f.mu.Lock()
		m := f.members[to]
		ok := m != nil && m.alive
		f.mu.Unlock()
		if ok {
			m.Receive(from.name, b)
		}
	})
}

func (f *fleet) changed(m *member, s Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.changes++
	if s.Self {
		m.led++
	}
	m.seen = append(m.seen, s)
	f.history = append(f.history, fmt.Sprintf("%8s %s: leader %q term %d eligible %v", time.Since(f.start).Round(time.Millisecond), m.name, s.Leader, s.Term, s.Eligible))
}

func (f *fleet) set(m *member, able bool) {
	f.mu.Lock()
	m.able = able
	f.mu.Unlock()
	m.Recheck()
}

// wait lets d pass.
func (f *fleet) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (f *fleet) close() {
	for _, m := range f.members {
		if m.alive {
			f.crash(m)
		}
	}
	time.Sleep(time.Second) // words still under way
}

// leaders names those that hold that they lead.
func (f *fleet) leaders() []string {
	f.mu.Lock()
	ms := f.living()
	f.mu.Unlock()
	var names []string
	for _, m := range ms {
		if m.Status().Self {
			names = append(names, m.name)
		}
	}
	return names
}

// settled says what is wrong with the fleet once nothing has happened for a
// while, "" if each side has exactly the one leader it should have.
func (f *fleet) settled() string {
	f.mu.Lock()
	ms := f.living()
	side := make(map[string]int)
	for n, s := range f.side {
		side[n] = s
	}
	able := make(map[string]bool)
	for _, m := range ms {
		able[m.name] = m.able && !m.observer
	}
	f.mu.Unlock()
	type view struct {
		leader string
		term   uint64
	}
	seen, anyAble, lead := map[int]view{}, map[int]bool{}, map[int][]string{}
	for _, m := range ms {
		s, k := m.Status(), side[m.name]
		v := view{s.Leader, s.Term}
		if s.Leader == "" {
			v.term = 0
		}
		if old, ok := seen[k]; ok && old != v {
			return fmt.Sprintf("%s follows %+v, another one on its side %+v", m.name, v, old)
		}
		seen[k] = v
		anyAble[k] = anyAble[k] || able[m.name]
		if s.Self {
			if !able[m.name] {
				return m.name + " leads and is not able"
			}
			lead[k] = append(lead[k], m.name)
		}
	}
	for k, v := range seen {
		switch l := lead[k]; {
		case anyAble[k] && len(l) != 1:
			return fmt.Sprintf("side %d has the leaders %v, want one", k, l)
		case anyAble[k] && l[0] != v.leader:
			return fmt.Sprintf("side %d follows %q while %q leads", k, v.leader, l[0])
		case !anyAble[k] && len(l) != 0:
			return fmt.Sprintf("side %d is led by %v and none is able", k, l)
		}
	}
	return ""
}

// split puts the named on one side of a partition and the rest on the other;
// without names it heals.
func (f *fleet) split(names ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.history = append(f.history, fmt.Sprintf("%8s split %v", time.Since(f.start).Round(time.Millisecond), names))
	f.side = map[string]int{}
	for _, n := range names {
		f.side[n] = 1
	}
}

func (f *fleet) report() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := ""
	for _, h := range f.history[max(0, len(f.history)-60):] {
		s += h + "\n"
	}
	return s
}

func (f *fleet) unlink(from, to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut[[2]string{from, to}] = true
}

func (f *fleet) weather(loss float64, latency time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loss, f.latency = loss, latency
}

func (f *fleet) sentBy(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent[name]
}

func (f *fleet) changesOf(m *member) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return m.changes
}

func (f *fleet) ledBy(m *member) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return m.led
}

func (f *fleet) events() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.history)
}
