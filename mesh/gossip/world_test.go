package gossip_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/internal/sim/simnet"
	"banmesh/mesh/gossip"
	"banmesh/store"
)

// world is a simulated mesh of real stores, with the history of what was asked
// of it: what must be live in the end is known.
type world struct {
	t      *testing.T
	net    *simnet.Network
	rng    *rand.Rand
	dir    string
	agents []*agent
	acked  map[offence]store.Millis // until of each acknowledged ban
	lifted map[offence]bool
	next   int
}

// offence identifies a ban: each one here has a jail of its own.
type offence struct {
	origin, jail string
	prefix       netip.Prefix
}

type agent struct {
	w      *world
	name   string
	addr   netip.AddrPort
	path   string
	offset atomic.Int64 // of its clock, a time.Duration
	join   []string
	pace   string // the profile of its failure detection; empty: the default

	store *store.Store
	host  *simnet.Host
	mesh  atomic.Pointer[gossip.Mesh]
	stopc chan struct{}
	donec chan struct{}
}

func simulateWorld(t *testing.T, seed uint64, n int, cfg simnet.Config, f func(*world)) {
	t.Helper()
	t.Logf("seed %d; again with -run '%s' -seed %d", seed, t.Name(), seed)
	dir, err := os.MkdirTemp(ramDisk(), "banmesh-sim-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	synctest.Test(t, func(t *testing.T) {
		cfg.Seed = seed
		w := &world{
			t: t, net: simnet.New(cfg), rng: rand.New(rand.NewPCG(seed, 1)), dir: dir,
			acked: map[offence]store.Millis{}, lifted: map[offence]bool{},
		}
		for i := range n {
			w.add(fmt.Sprintf("r%03d", i))
		}
		for _, a := range w.agents {
			a.start()
		}
		w.until(2*time.Minute, "all see all", func() bool { return w.allAlive() })
		f(w)
		for _, a := range w.agents {
			a.stop()
		}
		time.Sleep(5 * time.Minute) // memberlist leaves timers behind
		w.net.Close()
		synctest.Wait()
	})
}

// ramDisk is where a sync costs nothing, if there is such a place.
func ramDisk() string {
	if fi, err := os.Stat("/dev/shm"); err == nil && fi.IsDir() {
		return "/dev/shm"
	}
	return ""
}

func (w *world) add(name string) *agent {
	i := len(w.agents)
	a := &agent{
		w: w, name: name, path: filepath.Join(w.dir, name+".db"),
		addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(i%250 + 1)}), 7946),
	}
	w.agents = append(w.agents, a)
	a.join = []string{w.agents[0].addr.String(), w.agents[min(1, i)].addr.String()}
	return a
}

func (a *agent) now() time.Time { return time.Now().Add(time.Duration(a.offset.Load())) }

func (a *agent) start() {
	a.w.t.Helper()
	if err := a.tryStart(); err != nil {
		a.w.t.Fatalf("start %s: %v", a.name, err)
	}
}

func (a *agent) tryStart() error {
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("GOSSIP_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("self", a.name)
	}
	s, err := store.Open(store.Config{
		Path: a.path, Origin: a.name, Now: a.now, Logger: log,
		OnChange: func(c store.Change) {
			if m := a.mesh.Load(); c.OwnHead && m != nil {
				m.Announce()
			}
		},
	})
	if err != nil {
		return err
	}
	host, err := a.w.net.Attach(a.addr)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	cfg := gossip.DefaultConfig()
	cfg.Name, cfg.Set, cfg.Transport, cfg.Now, cfg.Logger = a.name, s, host, a.now, log
	cfg.Insecure, cfg.Join = true, a.join
	cfg.SetDirectMax(large - 1)
	if a.pace != "" {
		cfg.Profile = a.pace
	}
	m, err := gossip.New(context.Background(), cfg)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	a.store, a.host = s, host
	a.mesh.Store(m)
	m.Announce()
	a.stopc, a.donec = make(chan struct{}), make(chan struct{})
	go a.tick()
	return nil
}

// tick does what the agent does each second.
func (a *agent) tick() {
	defer close(a.donec)
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-a.stopc:
			return
		case <-t.C:
			_, agree := a.mesh.Load().Offset()
			a.store.Tick(agree)
		}
	}
}

func (a *agent) running() bool { return a.mesh.Load() != nil }

// stop is a stop without leave; what was not on disk is written first.
func (a *agent) stop() {
	if !a.running() {
		return
	}
	close(a.stopc)
	<-a.donec
	m := a.mesh.Swap(nil)
	if err := m.Shutdown(); err != nil {
		a.w.t.Errorf("shut down %s: %v", a.name, err)
	}
	if err := a.store.Close(); err != nil {
		a.w.t.Errorf("close %s: %v", a.name, err)
	}
}

func (a *agent) leave() {
	if err := a.mesh.Load().Leave(context.Background()); err != nil {
		a.w.t.Errorf("leave of %s: %v", a.name, err)
	}
	a.stop()
}

// crash leaves the disk as it is in this moment, whatever was about to be written.
func (a *agent) crash() {
	a.host.Crash()
	disk := a.snapshot()
	a.stop()
	a.restore(disk)
}

// snapshot copies the file as a backup would.
func (a *agent) snapshot() []byte {
	b, err := os.ReadFile(a.path)
	if err != nil {
		a.w.t.Fatal(err)
	}
	return b
}

// restore puts a file in place; nil wipes it.
func (a *agent) restore(b []byte) {
	if err := os.Remove(a.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.w.t.Fatal(err)
	}
	if b == nil {
		return
	}
	if err := os.WriteFile(a.path, b, 0o600); err != nil {
		a.w.t.Fatal(err)
	}
}

func (w *world) running() []*agent {
	return slices.DeleteFunc(slices.Clone(w.agents), func(a *agent) bool { return !a.running() })
}

// some picks a running agent.
func (w *world) some() *agent {
	r := w.running()
	return r[w.rng.IntN(len(r))]
}

// prefix picks one of a few, so that members ban the same ones.
func (w *world) prefix() netip.Prefix {
	n := w.rng.IntN(200)
	if n < 20 {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0xff, byte(n)}), 48)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(n)}), 32)
}

// ban has an agent ban n prefixes for a while.
func (w *world) ban(a *agent, n int, life time.Duration) {
	w.t.Helper()
	var reqs []store.BanRequest
	var offences []offence
	until := store.At(a.now().Add(life))
	for range n {
		w.next++
		o := offence{a.name, fmt.Sprint("j", w.next), w.prefix()}
		offences = append(offences, o)
		reqs = append(reqs, store.BanRequest{Prefix: o.prefix, Jail: o.jail, Until: until, Failures: 3})
	}
	out, err := a.store.Ban(context.Background(), reqs)
	if err != nil {
		w.t.Fatalf("ban at %s: %v", a.name, err)
	}
	for i, o := range offences {
		if out[i].Outcome != store.BanNew {
			w.t.Fatalf("ban %+v at %s: %v, want new", o, a.name, out[i])
		}
		w.acked[o] = until
	}
}

// lift has an agent lift all bans of a prefix that it sees.
func (w *world) lift(a *agent, p netip.Prefix) {
	w.t.Helper()
	synctest.Wait() // nothing arrives between the look and the lift
	for _, o := range live(a.store) {
		if o.prefix == p {
			w.lifted[o] = true
		}
	}
	if _, err := a.store.Lift(context.Background(), store.LiftRequest{Prefixes: []netip.Prefix{p}}); err != nil {
		w.t.Fatalf("lift at %s: %v", a.name, err)
	}
}

// live lists the offences that a store shows as banned.
func live(s *store.Store) []offence {
	var out []offence
	for _, e := range s.List(store.Query{}) {
		for _, r := range e.Records {
			out = append(out, offence{r.Origin, r.Jail, e.Prefix})
		}
	}
	return out
}

func compareOffences(a, b offence) int {
	if d := strings.Compare(a.origin, b.origin); d != 0 {
		return d
	}
	return strings.Compare(a.jail, b.jail)
}

// until waits in simulated time and returns how long it took.
func (w *world) until(limit time.Duration, what string, ok func() bool) time.Duration {
	w.t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > limit {
			for _, a := range w.running() {
				w.t.Logf("%s: root %x, in sync %v, counts %+v, dropped %v", a.name, w.root(a), a.mesh.Load().InSync(), a.store.Counts(), a.mesh.Load().Stats().Dropped)
			}
			w.t.Fatalf("not after %v: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
	return time.Since(began)
}

func (w *world) allAlive() bool {
	r := w.running()
	for _, a := range r {
		alive := 0
		for _, m := range a.mesh.Load().Members() {
			if m.State == gossip.Alive {
				alive++
			}
		}
		if alive != len(r) {
			return false
		}
	}
	return true
}

func (w *world) root(a *agent) [16]byte { return a.store.Root(store.Minute(time.Now())) }

func (w *world) rootsEqual() bool {
	r := w.running()
	first := w.root(r[0])
	return !slices.ContainsFunc(r, func(a *agent) bool { return w.root(a) != first })
}

// check waits until all agree and compares with the history.
func (w *world) check(limit time.Duration) time.Duration {
	w.t.Helper()
	took := w.until(limit, "roots equal", w.rootsEqual)
	synctest.Wait()
	now := store.At(time.Now())
	var want []offence
	for o, until := range w.acked {
		if !w.lifted[o] && until > now {
			want = append(want, o)
		}
	}
	slices.SortFunc(want, compareOffences)
	r := w.running()
	for _, a := range r {
		got := live(a.store)
		slices.SortFunc(got, compareOffences)
		if slices.Equal(got, want) {
			continue
		}
		has := map[offence]bool{}
		for _, o := range got {
			has[o] = true
		}
		for _, o := range want {
			if !has[o] {
				w.t.Errorf("%s lost %+v", a.name, o)
			}
			delete(has, o)
		}
		for o := range maps.Keys(has) {
			w.t.Errorf("%s shows %+v, lifted %v, until %v", a.name, o, w.lifted[o], w.acked[o].Time())
		}
	}
	// Record by record: nobody has anything for anybody, in either direction.
	ring := append(slices.Clone(r), r[0])
	for i, a := range r {
		for _, pair := range [][2]*agent{{a, ring[i+1]}, {ring[i+1], a}} {
			w.nothingFor(pair[0], pair[1])
		}
		if x, y := a.store.Counts(), r[0].store.Counts(); x.Live != y.Live || x.Effective != y.Effective || x.Allows != y.Allows {
			w.t.Errorf("%s counts %+v, %s %+v", a.name, x, r[0].name, y)
		}
	}
	if w.t.Failed() {
		w.t.FailNow()
	}
	return took
}

func (w *world) nothingFor(from, to *agent) {
	w.t.Helper()
	minute := store.Minute(time.Now())
	for chunk, err := range from.store.Deltas(to.store.Digest(minute), 256<<10) {
		if err != nil {
			w.t.Fatal(err)
		}
		m, err := to.store.Merge(bytes.Clone(chunk))
		if err != nil {
			w.t.Fatal(err)
		}
		if m.New > 0 {
			w.t.Errorf("%s had %d records of %v for %s although roots agree", from.name, m.New, m.Log, to.name)
		}
	}
}

// churn does random things for a while: bans and lifts everywhere.
func (w *world) churn(steps int, pause time.Duration) {
	for range steps {
		a := w.some()
		switch w.rng.IntN(10) {
		case 0, 1:
			if l := live(a.store); len(l) > 0 {
				slices.SortFunc(l, compareOffences)
				w.lift(a, l[w.rng.IntN(len(l))].prefix)
			}
		case 2:
			w.ban(a, 50, time.Hour)
		case 3:
			w.ban(a, 1, time.Duration(1+w.rng.IntN(20))*time.Second)
		default:
			w.ban(a, 1, time.Hour)
		}
		time.Sleep(time.Duration(w.rng.Int64N(int64(2*pause) + 1)))
	}
}

// halves splits the agents in two groups of addresses.
func (w *world) halves() (a, b []netip.Addr) {
	for i, ag := range w.agents {
		if i < len(w.agents)/2 {
			a = append(a, ag.addr.Addr())
		} else {
			b = append(b, ag.addr.Addr())
		}
	}
	return a, b
}
