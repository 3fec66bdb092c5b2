// Package world runs whole agents in a simulation: mesh.Agent as it is, with its doors opened to a network, disks, clocks,
// fail2bans, packet filters and a conductor that are in memory and go wrong by a seed. It runs in a testing/synctest bubble,
// so that months pass in minutes; what must always hold is looked at all the time.
package world

import (
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"banmesh/internal/mark"
	"banmesh/internal/sim/simnet"
)

// Config says what is simulated. Zero fields take their defaults.
type Config struct {
	Seed        uint64
	Members     int           // default 3 to 9, by the seed
	Length      time.Duration // simulated; default a day
	Pause       time.Duration // between two things that happen, about; default 40 s
	Dir         string        // where the stores' files lie; a disk in memory is best
	MaxDuration time.Duration // bans.max_duration; default a day
	Calm        bool          // load alone, nothing goes wrong
	Log         slog.Handler  // of the agents; nil: none
	Say         func(string)  // is told what happens; nil: nobody
}

// Result is what a simulation saw.
type Result struct {
	Faults  []string       // what must always hold and did not
	Marks   map[string]int // how often each rare branch was reached
	Days    float64
	Actions int
	Quiet   int    // points at which all was compared
	Trace   uint64 // a hash over what happened and when
}

// World is one simulation under way.
type World struct {
	cfg     Config
	rng     *rand.Rand    // what is done: anew for each thing, so that one that goes another way leaves the next ones as they are
	when    *rand.Rand    // when something is done
	at      time.Duration // since the beginning: when the current thing was due
	net     *simnet.Network
	began   time.Time
	members []*Member
	console *console

	conductorAddr netip.AddrPort
	sacredAddrs   atomic.Pointer[map[netip.Addr]bool] // what nobody may ever ban

	book    *book
	later   []event      // what ends, by time
	calmAt  atomic.Int64 // since when all is well, in ns
	stepped bool         // a clock is wrong by more than a minute
	acts    int
	quiet   int
	differ  map[[2]string]time.Time

	mu      sync.Mutex
	current string
	faults  []string
	marks   map[string]int
	trace   uint64
}

type event struct {
	at time.Time
	do func()
}

// Run runs one simulation. It must be called in a bubble of testing/synctest, which it leaves as it found it.
func Run(cfg Config) Result {
	w := newWorld(cfg)
	mark.Watch(w.reached)
	defer mark.Watch(nil)
	w.run()
	return Result{w.faults, w.marks, time.Since(w.began).Hours() / 24, w.acts, w.quiet, w.trace}
}

func newWorld(cfg Config) *World {
	rng := rand.New(rand.NewPCG(cfg.Seed, 77))
	if cfg.Members == 0 {
		cfg.Members = 3 + rng.IntN(7)
	}
	if cfg.Length == 0 {
		cfg.Length = 24 * time.Hour
	}
	if cfg.Pause == 0 {
		cfg.Pause = 40 * time.Second
	}
	if cfg.MaxDuration == 0 {
		cfg.MaxDuration = 24 * time.Hour
	}
	w := &World{
		cfg: cfg, rng: rng, when: rand.New(rand.NewPCG(cfg.Seed, 78)), began: time.Now(), marks: make(map[string]int),
		differ:        make(map[[2]string]time.Time),
		conductorAddr: netip.MustParseAddrPort("10.9.0.1:830"),
	}
	w.book = newBook(w)
	w.sacredAddrs.Store(&map[netip.Addr]bool{})
	w.troubled()
	net := simnet.Config{Seed: cfg.Seed, Latency: 15 * time.Millisecond, Jitter: 10 * time.Millisecond}
	if !cfg.Calm {
		net.Loss, net.Duplicate, net.Reorder = 0.01, 0.005, 0.02
	}
	w.net = simnet.New(net)
	w.console = newConsole(w)
	for i := range cfg.Members {
		m := &Member{
			w: w, name: fmt.Sprintf("r%d", i+1), addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 7946),
			spool: &heap{draining: make(turn, 1)},
		}
		m.dir = filepath.Join(cfg.Dir, m.name)
		m.watchdog, m.kernel = newWatchdog(m), newKernel(w, m)
		w.members = append(w.members, m)
	}
	return w
}

// reached notes a mark.
func (w *World) reached(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.marks[name]++
}

// fault notes that something that must always hold does not.
func (w *World) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.faults) < 20 {
		w.faults = append(w.faults, fmt.Sprintf("after %v, at %q: ", time.Since(w.began).Round(time.Millisecond), w.current)+fmt.Sprintf(format, args...))
	}
}

func (w *World) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.faults) > 0
}

// sign takes something that happened into the trace: what and when it was due. The moment itself is up to agents that wait for
// each other, and to the scheduler.
func (w *World) sign(format string, args ...any) {
	h := fnv.New64a()
	fmt.Fprintf(h, "%x %d ", w.trace, w.at)
	fmt.Fprintf(h, format, args...)
	w.trace = h.Sum64()
}

// sacred reports whether a prefix holds an address that nobody may ever ban.
func (w *World) sacred(p netip.Prefix) bool {
	for a := range *w.sacredAddrs.Load() {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// calmFor reports whether nothing has gone wrong for a while, with the network, the members and their clocks.
func (w *World) calmFor(d time.Duration) bool { return time.Since(time.Unix(0, w.calmAt.Load())) >= d }

// troubled begins that while anew.
func (w *World) troubled() { w.calmAt.Store(time.Now().UnixNano()) }

// in has something done later, or when all is made well.
func (w *World) in(d time.Duration, do func()) {
	w.later = append(w.later, event{time.Now().Add(d), do})
}

func (w *World) run() {
	for _, m := range w.members {
		if err := os.MkdirAll(m.dir, 0o700); err != nil {
			w.fault("%v", err)
			return
		}
		if err := m.start(); err != nil {
			w.fault("start %s: %v", m.name, err)
			return
		}
	}
	w.settle()
	w.hallow()
	w.resume()
	next := w.between()
	for w.at < w.cfg.Length && !w.failed() {
		w.step()
		if w.at > next && !w.failed() {
			w.quietPoint()
			w.resume()
			next = w.between()
		}
	}
	if !w.failed() {
		w.quietPoint()
	}
	w.now("the end")
	for _, m := range w.members {
		m.halt()
	}
	time.Sleep(10 * time.Minute) // memberlist leaves timers behind
	w.net.Close()
	synctest.Wait()
}

// resume goes on at a round time: how long it took until all agreed is another time each time.
func (w *World) resume() {
	const round = 5 * time.Minute
	w.at = (time.Since(w.began)/round + 1) * round
	w.rng = rand.New(rand.NewPCG(w.cfg.Seed, uint64(w.acts)<<8|1))
}

// between is when the next quiet point is: mostly within the hour, sometimes half a day away.
func (w *World) between() time.Duration {
	d := 10*time.Minute + time.Duration(w.when.Int64N(int64(40*time.Minute)))
	if w.when.IntN(8) == 0 {
		d = time.Duration(w.when.Int64N(int64(12 * time.Hour)))
	}
	return w.at + d
}

// step lets some time pass, and has one thing happen.
func (w *World) step() {
	w.at += time.Duration(w.when.ExpFloat64() * float64(w.cfg.Pause))
	w.pass(w.began.Add(w.at))
	if w.failed() {
		return
	}
	w.acts++
	w.rng = rand.New(rand.NewPCG(w.cfg.Seed, uint64(w.acts)<<8))
	w.act()
}

// pass lets time pass: what is over by then ends, and each few seconds it is looked at what can be looked at always.
func (w *World) pass(until time.Time) {
	for time.Now().Before(until) && !w.failed() {
		at := time.Now().Add(5 * time.Second)
		if at.After(until) {
			at = until
		}
		for _, e := range w.later {
			if e.at.Before(at) {
				at = e.at
			}
		}
		time.Sleep(time.Until(at))
		synctest.Wait()
		w.end(func(e event) bool { return !time.Now().Before(e.at) })
		for _, m := range w.members {
			m.watchdog.pass()
		}
		w.look()
	}
}

// end does what is over.
func (w *World) end(over func(event) bool) {
	var now []event
	w.later = slices.DeleteFunc(w.later, func(e event) bool {
		if over(e) {
			now = append(now, e)
			return true
		}
		return false
	})
	for _, e := range now {
		e.do()
	}
}

func (w *World) running() []*Member {
	return slices.DeleteFunc(slices.Clone(w.members), func(m *Member) bool { return !m.running() })
}

// some picks a running member, nil where there is none.
func (w *World) some() *Member {
	if r := w.running(); len(r) > 0 {
		return r[w.rng.IntN(len(r))]
	}
	return nil
}

// now says what is being done, for the faults that are found meanwhile and for the trace.
func (w *World) now(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.mu.Lock()
	w.current = text
	w.mu.Unlock()
	w.sign("%s", text)
	if w.cfg.Say != nil {
		w.cfg.Say(fmt.Sprintf("%12v %s", time.Since(w.began).Round(time.Millisecond), text))
	}
}

// hallow makes the addresses that are in use sacred. It is called when all members have told them all.
func (w *World) hallow() {
	all := map[netip.Addr]bool{w.conductorAddr.Addr(): true}
	for _, m := range w.members {
		all[m.addr.Addr()] = true
	}
	w.sacredAddrs.Store(&all)
}
