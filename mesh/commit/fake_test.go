package commit

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go4.org/netipx"

	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/prefixset"
	"banmesh/store"
)

// fakeSet is a replicated set small enough to see through: bans are offences,
// placed prefixes are dots, lifts name what they have seen, and merging is union.
type fakeSet struct {
	name string

	slow  atomic.Int64 // how long Effective takes
	looks atomic.Int64 // how often it was asked

	mu     sync.Mutex
	next   int
	bans   map[string]fakeBan // by offence
	lifts  map[string]bool    // offence → by a confirmed command
	allows []netip.Prefix
	placed map[string]store.PlacedEntry // by dot
	gone   map[string]bool              // dots lifted
	frozen bool
	fail   error // of Place and Unplace
	writes int
}

type fakeBan struct {
	prefix       netip.Prefix
	start, until time.Time
}

func newFakeSet(name string) *fakeSet {
	return &fakeSet{name: name, bans: map[string]fakeBan{}, lifts: map[string]bool{}, placed: map[string]store.PlacedEntry{}, gone: map[string]bool{}}
}

func (s *fakeSet) dot() string {
	s.next++
	return fmt.Sprintf("%s/%d", s.name, s.next)
}

func (s *fakeSet) ban(d time.Duration, ps ...netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range ps {
		s.bans[s.dot()] = fakeBan{p, time.Now(), time.Now().Add(d)}
	}
}

func (s *fakeSet) unban(confirmed bool, ps ...netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for o, b := range s.bans {
		if slices.Contains(ps, b.prefix) {
			s.lifts[o] = confirmed
		}
	}
}

func (s *fakeSet) allow(ps ...netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allows = append(s.allows, ps...)
}

func (s *fakeSet) freeze(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = on
}

func (s *fakeSet) failWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

// merge makes both sets the same.
func (s *fakeSet) merge(o *fakeSet) {
	s.mu.Lock()
	o.mu.Lock()
	defer s.mu.Unlock()
	defer o.mu.Unlock()
	for _, x := range [][2]*fakeSet{{s, o}, {o, s}} {
		maps.Copy(x[0].bans, x[1].bans)
		maps.Copy(x[0].lifts, x[1].lifts)
		maps.Copy(x[0].placed, x[1].placed)
		maps.Copy(x[0].gone, x[1].gone)
	}
	all := setOfPrefixes(append(s.allows, o.allows...)).Prefixes()
	s.allows, o.allows = all, slices.Clone(all)
	s.frozen = s.frozen || o.frozen
	o.frozen = s.frozen
}

func (s *fakeSet) Effective() iter.Seq[store.EffectiveBan] {
	return func(yield func(store.EffectiveBan) bool) {
		s.looks.Add(1)
		time.Sleep(time.Duration(s.slow.Load()))
		s.mu.Lock()
		defer s.mu.Unlock()
		found := make(map[netip.Prefix]store.EffectiveBan)
		for o, b := range s.bans {
			if _, lifted := s.lifts[o]; lifted || !b.until.After(time.Now()) {
				continue
			}
			e := found[b.prefix]
			e.Prefix, e.Origins, e.Records = b.prefix, 1, e.Records+1
			e.Newest, e.Until = max(e.Newest, store.At(b.start)), max(e.Until, store.At(b.until))
			found[b.prefix] = e
		}
		exemptions := setOfPrefixes(s.allows)
		for _, p := range slices.SortedFunc(maps.Keys(found), comparePrefixes) {
			e := found[p]
			e.Pieces = exemptions.Outside(p)
			if len(e.Pieces) > 0 && !yield(e) {
				return
			}
		}
	}
}

func (s *fakeSet) Gone(p netip.Prefix) store.Gone {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := store.Gone{}
	for o, b := range s.bans {
		if !b.prefix.Overlaps(p) || b.prefix.Bits() > p.Bits() {
			continue
		}
		confirmed, lifted := s.lifts[o]
		switch {
		case !b.until.After(time.Now()):
			if g.Cause == store.GoneUnknown && time.Since(b.until) < 2*time.Hour {
				g.Cause = store.GoneExpired
			}
		case lifted:
			g = store.Gone{Cause: store.GoneLifted, Confirmed: confirmed}
		default:
			if setOfPrefixes(s.allows).OverlapsPrefix(p) {
				return store.Gone{Cause: store.GoneAllowed}
			}
			return store.Gone{Cause: store.GoneNot}
		}
	}
	return g
}

func (s *fakeSet) Placed() []store.PlacedEntry {
	m := s.PlacedBy(func(string, netip.Prefix) bool { return true })
	return slices.SortedFunc(maps.Values(m), func(a, b store.PlacedEntry) int { return comparePrefixes(a.Prefix, b.Prefix) })
}

func (s *fakeSet) PlacedBy(take func(string, netip.Prefix) bool) map[netip.Prefix]store.PlacedEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := make(map[netip.Prefix]store.PlacedEntry)
	for d, e := range s.placed {
		origin, _, _ := strings.Cut(d, "/")
		if !s.gone[d] && take(origin, e.Prefix) && e.Until.Time().After(time.Now()) && e.Until > m[e.Prefix].Until {
			m[e.Prefix] = e
		}
	}
	return m
}

func (s *fakeSet) Place(_ context.Context, ps []netip.Prefix, until store.Millis) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.writes++
	for _, p := range ps {
		s.placed[s.dot()] = store.PlacedEntry{Prefix: p, Until: until}
	}
	return nil
}

func (s *fakeSet) Unplace(_ context.Context, ps []netip.Prefix) error { return s.unplace(ps, "") }

func (s *fakeSet) UnplaceOwn(_ context.Context, ps []netip.Prefix) error {
	return s.unplace(ps, s.name+"/")
}

// unplace lifts the dots that begin so.
func (s *fakeSet) unplace(ps []netip.Prefix, whose string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.writes++
	for d, e := range s.placed {
		if slices.Contains(ps, e.Prefix) && strings.HasPrefix(d, whose) {
			s.gone[d] = true
		}
	}
	return nil
}

func (s *fakeSet) Exemptions() *netipx.IPSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return setOfPrefixes(s.allows).IPSet
}

func (s *fakeSet) Frozen() (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frozen, "c"
}

func (s *fakeSet) placedPrefixes() []netip.Prefix {
	var ps []netip.Prefix
	for _, e := range s.Placed() {
		ps = append(ps, e.Prefix)
	}
	return ps
}

var _ replicatedSet = (*fakeSet)(nil)
var _ replicatedSet = (*store.Store)(nil)

// site is a conductor with one shared candidate and a lock, and a record of
// everything that was ever committed. It breaks as it is told.
type site struct {
	t *testing.T

	mu        sync.Mutex
	running   map[netip.Prefix]bool
	candidate map[netip.Prefix]bool // nil: clean
	emptied   bool                  // our member is gone
	node      string                // that answers
	holder    uint64
	sessions  uint64
	open      int // sessions
	killed    []uint64
	delay     time.Duration
	faults    []fault
	history   []commitRecord
	tries     map[string]int    // step → how often
	last      time.Time         // when the last step was begun
	atOnce    int               // steps at that very moment
	after     map[string]func() // called when a step has had its effect
	bad       []string          // what must never happen
}

// commitRecord is one change of running.
type commitRecord struct {
	at          time.Time
	by          string // "" for an administrator
	add, remove []netip.Prefix
	wrong       string // what the checker holds against it
}

// fault breaks one step, once or for ever.
type fault struct {
	by     string // whose, "" for everybody's
	step   string // begin, apply, commit, read, close
	err    error
	effect bool // the step takes effect all the same
	hang   bool // until ctx ends
	drop   bool // additions are lost, the answer is ok
	always bool
}

func newSite(t *testing.T) *site {
	return &site{t: t, node: nodeName, running: map[netip.Prefix]bool{}, tries: map[string]int{}}
}

func (s *site) breaks(f ...fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, f...)
}

func (s *site) repair() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

func (s *site) tried(step string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tries[step]
}

func (s *site) commits() []commitRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.history)
}

func (s *site) tenant() []netip.Prefix {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Keys(s.running), comparePrefixes)
}

// byHand is an administrator's own commit.
func (s *site) byHand(add, remove []netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, store := range []map[netip.Prefix]bool{s.running, s.candidate} { // a candidate with edits follows what others commit
		for _, p := range add {
			if store != nil {
				store[p] = true
			}
		}
		for _, p := range remove {
			delete(store, p)
		}
	}
	s.history = append(s.history, commitRecord{at: time.Now(), add: add, remove: remove})
}

// edits leaves uncommitted changes of somebody in the candidate.
func (s *site) edits(add, remove []netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.candidate = maps.Clone(s.running)
	for _, p := range add {
		s.candidate[p] = true
	}
	for _, p := range remove {
		delete(s.candidate, p)
	}
}

func (s *site) lockedBy(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holder = id
}

// meet counts a step and plays its fault. It reports whether the step takes
// effect.
func (s *site) meet(ctx context.Context, by, step string) (effect, drop bool, err error) {
	s.mu.Lock()
	s.tries[step]++
	hammered := s.hammered(step)
	delay := time.Duration(0)
	if step == "commit" {
		delay = s.delay
	}
	var f *fault
	for i := range s.faults {
		if x := s.faults[i]; x.step == step && (x.by == "" || x.by == by) {
			f = &x
			if !x.always {
				s.faults = slices.Delete(s.faults, i, i+1)
			}
			break
		}
	}
	s.mu.Unlock()
	if hammered {
		time.Sleep(time.Hour) // or virtual time would never go on
	}
	if f != nil && f.hang {
		<-ctx.Done()
		return f.effect, false, fmt.Errorf("%s: %w", step, ctx.Err())
	}
	if delay > 0 {
		select {
		case <-ctx.Done():
			return true, false, fmt.Errorf("%s: %w", step, ctx.Err())
		case <-time.After(delay):
		}
	}
	if err := ctx.Err(); err != nil {
		return false, false, fmt.Errorf("%s: %w", step, err)
	}
	if f != nil {
		return f.effect || f.drop, f.drop, f.err
	}
	return true, false, nil
}

// hammered reports whether so much is asked for at one moment that no time passes in between: no back-off holds anybody.
func (s *site) hammered(step string) bool {
	const most = 100
	if now := time.Now(); !now.Equal(s.last) {
		s.last, s.atOnce = now, 0
	}
	s.atOnce++
	if s.atOnce == most {
		s.bad = append(s.bad, fmt.Sprintf("%s is tried without a pause", step))
	}
	return s.atOnce >= most
}

// link is one member's way to the site.
type link struct {
	site  *site
	by    string
	check func() func(r *commitRecord, running map[netip.Prefix]bool) // of what is known now; fills wrong
	hide  []netip.Prefix                                              // left out of the next reading; site.mu guards it
}

// lie makes one reading leave something out.
func (l *link) lie(hide []netip.Prefix) {
	l.site.mu.Lock()
	defer l.site.mu.Unlock()
	l.hide = hide
}

type fakeEdit struct {
	*link
	id        uint64
	before    conductor.Running
	add       []netip.Prefix
	remove    []netip.Prefix
	committed bool
	judge     func(r *commitRecord, running map[netip.Prefix]bool)
}

func (l *link) tenantLocked() conductor.Running {
	return conductor.Running{Addresses: slices.Collect(maps.Keys(l.site.running)), Exists: true, Member: !l.site.emptied, Conductor: l.site.node}
}

func (l *link) Begin(ctx context.Context, p conductor.Permit) (conductor.Edit, error) {
	effect, _, err := l.site.meet(ctx, l.by, "begin")
	s := l.site
	s.mu.Lock()
	defer s.mu.Unlock()
	if !effect || err != nil {
		return nil, err
	}
	if s.holder != 0 && slices.Contains(p.Kill, conductor.SessionAt{Node: nodeName, ID: s.holder}) {
		s.killed = append(s.killed, s.holder)
		s.holder = 0
	}
	if s.holder != 0 {
		return nil, &conductor.BusyError{Holder: s.holder, Detail: "lock-denied"}
	}
	if s.candidate != nil {
		var add, remove []netip.Prefix
		for x := range s.candidate {
			if !s.running[x] {
				add = append(add, x)
			}
		}
		for x := range s.running {
			if !s.candidate[x] {
				remove = append(remove, x)
			}
		}
		if len(add)+len(remove) > 0 {
			s.mu.Unlock()
			ours := p.Ours(add, remove)
			s.mu.Lock()
			if !ours {
				return nil, &conductor.BusyError{Dirty: true, Detail: "resource-denied"}
			}
		}
		s.candidate = nil
	}
	before := l.tenantLocked()
	if err := wideOpen(before); err != nil {
		return nil, err
	}
	s.sessions++
	s.open++
	s.holder = s.sessions
	return &fakeEdit{link: l, id: s.sessions, before: before}, nil
}

func (l *link) Read(ctx context.Context) (conductor.Running, error) {
	effect, _, err := l.site.meet(ctx, l.by, "read")
	if !effect || err != nil {
		return conductor.Running{}, err
	}
	l.site.mu.Lock()
	defer l.site.mu.Unlock()
	r := l.tenantLocked()
	r.Addresses = slices.DeleteFunc(r.Addresses, func(p netip.Prefix) bool { return slices.Contains(l.hide, p) })
	l.hide = nil
	return r, wideOpen(r)
}

// wideOpen refuses a tenant as a conductor does.
func wideOpen(r conductor.Running) error {
	if i := slices.IndexFunc(r.Addresses, prefixset.WideOpen); i >= 0 {
		return fmt.Errorf("read running: %w: %s in running", conductor.ErrWideOpen, r.Addresses[i])
	}
	return nil
}

func (l *link) Features() string   { return "fake" }
func (l *link) Warnings() []string { return nil }
func (l *link) Close() error       { return nil }

func (e *fakeEdit) Running() conductor.Running { return e.before }
func (e *fakeEdit) Session() uint64            { return e.id }

func (e *fakeEdit) Apply(ctx context.Context, add, remove []netip.Prefix) error {
	e.judge = e.check()
	effect, _, err := e.site.meet(ctx, e.by, "apply")
	s := e.site
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder != e.id {
		s.bad = append(s.bad, fmt.Sprintf("%s edits without the lock", e.by))
	}
	if effect {
		s.candidate = maps.Clone(s.running)
		for _, p := range add {
			s.candidate[p] = true
		}
		for _, p := range remove {
			if !s.candidate[p] {
				s.bad = append(s.bad, fmt.Sprintf("%s removes %s which is not there", e.by, p))
			}
			delete(s.candidate, p)
		}
		e.add, e.remove = add, remove
	}
	if f := s.after["apply"]; f != nil {
		f()
	}
	return err
}

func (e *fakeEdit) Commit(ctx context.Context) error {
	effect, drop, err := e.site.meet(ctx, e.by, "commit")
	s := e.site
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder != e.id {
		s.bad = append(s.bad, fmt.Sprintf("%s commits without the lock", e.by))
	}
	if !effect {
		return err
	}
	r := commitRecord{at: time.Now(), by: e.by, add: e.add, remove: e.remove}
	if drop {
		r.add = nil
		for _, p := range e.add {
			delete(s.candidate, p)
		}
	}
	s.running, s.candidate = s.candidate, nil
	e.committed = true
	e.judge(&r, s.running)
	s.history = append(s.history, r)
	return err
}

func (e *fakeEdit) Close(ctx context.Context) error {
	effect, _, err := e.site.meet(ctx, e.by, "close")
	s := e.site
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if effect && !e.committed {
		s.candidate = nil
	}
	if s.holder == e.id { // the lock goes with the session, whatever else fails
		s.holder = 0
	}
	return err
}

var (
	_ Conductor      = (*link)(nil)
	_ conductor.Edit = (*fakeEdit)(nil)
)

// agent is a committer with all that it needs.
type agent struct {
	*Committer
	set  *fakeSet
	link *link
	site *site

	mu     sync.Mutex
	leads  bool
	ready  bool
	agree  bool
	stale  []conductor.SessionAt
	events []Event
	work   []string
	stop   context.CancelFunc
	done   chan struct{}
}

func (a *agent) flag(f func()) {
	a.mu.Lock()
	f()
	a.mu.Unlock()
}

func (a *agent) lead(on bool) {
	a.flag(func() { a.leads = on })
	a.LeaderChanged()
}

func (a *agent) told(k EventKind) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, e := range a.events {
		if e.Kind == k {
			n++
		}
	}
	return n
}

func (a *agent) lastWork() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.work) == 0 {
		return ""
	}
	return a.work[len(a.work)-1]
}

// halt stops the committer and waits for it.
func (a *agent) halt() {
	a.stop()
	<-a.done
}

// newAgent starts a leading member at the site.
// nodeName is how every agent addresses the one conductor.
const nodeName = "fake"

func newAgent(t *testing.T, s *site, name string, change ...func(*Config)) *agent {
	t.Helper()
	a := &agent{set: newFakeSet(name), site: s, leads: true, ready: true, agree: true, done: make(chan struct{})}
	a.link = &link{site: s, by: name}
	a.link.check = a.judge
	cfg := DefaultConfig()
	cfg.Name, cfg.Set, cfg.Conductor = name, a.set, a.link
	on := func(b *bool) func() bool {
		return func() bool { a.mu.Lock(); defer a.mu.Unlock(); return *b }
	}
	cfg.Leading, cfg.Ready, cfg.ClocksAgree = on(&a.leads), on(&a.ready), on(&a.agree)
	cfg.StaleSessions = func() []conductor.SessionAt { a.mu.Lock(); defer a.mu.Unlock(); return a.stale }
	cfg.OnEvent = func(e Event) { a.flag(func() { a.events = append(a.events, e) }) }
	cfg.SetWork = func(w Work, detail string, session conductor.SessionAt, _ time.Time) {
		a.flag(func() { a.work = append(a.work, fmt.Sprintf("%d %s %d", w, detail, session.ID)) })
	}
	for _, f := range change {
		f(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a.Committer = c
	ctx, stop := context.WithCancel(context.Background())
	a.stop = stop
	go func() {
		defer close(a.done)
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	return a
}

// judge is the history checker: it looks at a commit with what the member knew as
// it began to edit, and with nothing of the committer's.
func (a *agent) judge() func(r *commitRecord, running map[netip.Prefix]bool) {
	var live netipx.IPSetBuilder
	for b := range a.set.Effective() {
		for _, p := range b.Pieces {
			live.AddPrefix(p)
		}
	}
	banned := setOf(&live)
	return func(r *commitRecord, running map[netip.Prefix]bool) {
		held := setOfPrefixes(slices.Collect(maps.Keys(running)))
		for _, p := range r.add {
			if !banned.ContainsPrefix(p) {
				r.wrong += fmt.Sprintf("%s came without a ban; ", p)
			}
		}
		for _, p := range r.remove {
			if banned.ContainsPrefix(p) && !held.ContainsPrefix(p) {
				r.wrong += fmt.Sprintf("%s vanished while banned; ", p)
			}
		}
	}
}

// play runs a scenario with one site in virtual time. Afterwards nothing may be
// open and nothing may have gone wrong.
func play(t *testing.T, scenario func(t *testing.T, s *site)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		scenario(t, s)
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, b := range s.bad {
			t.Error(b)
		}
		if s.open != 0 {
			t.Errorf("%d sessions are left open", s.open)
		}
		for i, r := range s.history {
			if r.wrong != "" {
				t.Errorf("commit %d by %s: %s", i, r.by, r.wrong)
			}
		}
	})
}

// pass lets d go by.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

var errDisk = errors.New("no space left on device")

// warned returns the number that the warning with these words begins with, 0 where there is none.
func warned(st Status, words string) (n int) {
	for _, w := range st.Warnings {
		if strings.Contains(w, words) {
			_, _ = fmt.Sscan(w, &n)
		}
	}
	return n
}

// committed reports whether all of a prefix is in the tenant now.
func (c *Committer) committed(p netip.Prefix) bool { return c.CommittedNow()(p) }
