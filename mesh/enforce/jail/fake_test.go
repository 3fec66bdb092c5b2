package jail

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/mesh/enforce"
	"banmesh/mesh/fail2ban"
	"banmesh/store"
)

// fakeSet is the replicated set as far as the enforcer sees it.
type fakeSet struct {
	mu     sync.Mutex
	bans   map[netip.Prefix]store.EffectiveBan
	frozen bool
	meta   map[string][]byte
	walks  int
	cost   time.Duration // of a walk
}

func newFakeSet() *fakeSet {
	return &fakeSet{bans: make(map[netip.Prefix]store.EffectiveBan), meta: make(map[string][]byte)}
}

func (s *fakeSet) Effective() iter.Seq[store.EffectiveBan] {
	s.mu.Lock()
	s.walks++
	cost := s.cost
	s.mu.Unlock()
	time.Sleep(cost)
	return s.EffectiveIn(netip.Prefix{})
}

func (s *fakeSet) walked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.walks
}

func (s *fakeSet) EffectiveIn(p netip.Prefix) iter.Seq[store.EffectiveBan] {
	return func(yield func(store.EffectiveBan) bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, e := range s.bans {
			if (!p.IsValid() || e.Prefix.Overlaps(p)) && !yield(e) {
				return
			}
		}
	}
}

func (s *fakeSet) Frozen() (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frozen, "router2"
}

func (s *fakeSet) SaveMeta(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meta[key] = value
	return nil
}

func (s *fakeSet) Meta(key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.meta[key]
	return value, ok
}

// fakeJail is a fail2ban with one jail.
type fakeJail struct {
	mu      sync.Mutex
	err     error
	shape   fail2ban.Shape
	held    map[netip.Prefix]time.Time
	cost    time.Duration // of one ban or unban
	calls   []string      // what changed something
	largest int           // prefixes in one call
	onUnban func(p netip.Prefix, start time.Time)
}

func newFakeJail() *fakeJail {
	return &fakeJail{shape: fail2ban.Shape{Blocks: true, NotifiesUnbans: true, Flushes: true}, held: make(map[netip.Prefix]time.Time)}
}

func (j *fakeJail) Shape(context.Context, string) (fail2ban.Shape, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.shape, j.err
}

func (j *fakeJail) Banned(context.Context, string) ([]fail2ban.Banned, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []fail2ban.Banned
	for p, start := range j.held {
		list = append(list, fail2ban.Banned{Prefix: p, Start: start, BanTime: 30 * 24 * time.Hour})
	}
	return list, j.err
}

func (j *fakeJail) change(what string, prefixes []netip.Prefix, each func(netip.Prefix)) error {
	j.mu.Lock()
	err := j.err
	if err == nil {
		j.calls = append(j.calls, fmt.Sprint(what, " ", prefixes))
		j.largest = max(j.largest, len(prefixes))
	}
	cost := time.Duration(len(prefixes)) * j.cost
	j.mu.Unlock()
	if err != nil {
		return err
	}
	time.Sleep(cost)
	for _, p := range prefixes {
		each(p)
	}
	return nil
}

func (j *fakeJail) Ban(_ context.Context, _ string, prefixes []netip.Prefix) error {
	return j.change("ban", prefixes, func(p netip.Prefix) { j.hold(p) })
}

func (j *fakeJail) Unban(_ context.Context, _ string, prefixes []netip.Prefix) error {
	return j.change("unban", prefixes, func(p netip.Prefix) { j.letGo(p) })
}

func (j *fakeJail) Empty(context.Context, string) error {
	return j.change("empty", nil, nil)
}

func (j *fakeJail) hold(p netip.Prefix) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, ok := j.held[p]; !ok {
		j.held[p] = time.Now()
	}
}

// letGo unbans a prefix and calls the unban hook, as fail2ban does.
func (j *fakeJail) letGo(p netip.Prefix) {
	j.mu.Lock()
	start, ok := j.held[p]
	delete(j.held, p)
	hook := j.onUnban
	j.mu.Unlock()
	if ok && hook != nil {
		hook(p, start)
	}
}

func (j *fakeJail) set(f func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f()
}

func (j *fakeJail) did() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.calls)
}

// rig is an Enforcer over fakes, within a bubble of synctest.
type rig struct {
	*Enforcer
	t       *testing.T
	set     *fakeSet
	jail    *fakeJail
	settled atomic.Bool
	stop    func()
}

// running runs the test with an Enforcer that is settled.
func running(t *testing.T, limit int, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, set: newFakeSet(), jail: newFakeJail()}
		r.settled.Store(true)
		r.start(limit)
		test(r)
		r.stop()
	})
}

// start starts the agent's part, also once more after stop.
func (r *rig) start(limit int) {
	r.t.Helper()
	enforcer, err := New(Config{Set: r.set, Client: r.jail, Limit: limit, Settled: r.settled.Load})
	if err != nil {
		r.t.Fatal(err)
	}
	r.Enforcer = enforcer
	r.jail.set(func() {
		r.jail.onUnban = func(p netip.Prefix, start time.Time) {
			if err := enforcer.Unbanned(context.Background(), p, start); err != nil {
				r.t.Error(err)
			}
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- enforcer.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("Run: %v", err)
		}
	}
	// The first turn comes before what the test does next, and not in the midst of it.
	synctest.Wait()
}

// pass lets time pass until the Enforcer waits again.
func (r *rig) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *rig) ban(prefix string, with ...func(*store.EffectiveBan)) {
	p := netip.MustParsePrefix(prefix)
	e := store.EffectiveBan{Prefix: p, Pieces: []netip.Prefix{p}, Newest: store.At(time.Now()), Until: store.Never, ByPeer: true}
	for _, f := range with {
		f(&e)
	}
	r.set.mu.Lock()
	r.set.bans[p] = e
	r.set.mu.Unlock()
	r.Changed(store.Change{Events: []store.Event{{Kind: store.EventBan, Prefix: p}}})
}

func (r *rig) lift(prefix string) {
	p := netip.MustParsePrefix(prefix)
	r.set.mu.Lock()
	delete(r.set.bans, p)
	r.set.mu.Unlock()
	r.Changed(store.Change{Events: []store.Event{{Kind: store.EventLift, Prefix: p}}})
}

func own(e *store.EffectiveBan) { e.ByPeer = false }

// want compares what the jail holds.
func (r *rig) want(prefixes ...string) {
	r.t.Helper()
	r.jail.mu.Lock()
	var got []string
	for p := range r.jail.held {
		got = append(got, p.String())
	}
	r.jail.mu.Unlock()
	slices.Sort(got)
	slices.Sort(prefixes)
	if !slices.Equal(got, prefixes) {
		r.t.Errorf("the jail holds %q, want %q", got, prefixes)
	}
}

func (r *rig) wantState(state enforce.State, elements int, detail string) {
	r.t.Helper()
	s := r.Status()
	if s.Driver != "fail2ban" || s.State != state || s.Elements != elements || !strings.Contains(s.Detail, detail) || (detail == "") != (s.Detail == "") {
		r.t.Errorf("status %+v, want %s, %d elements, %q", s, state, elements, detail)
	}
}
