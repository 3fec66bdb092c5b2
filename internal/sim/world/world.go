// Package world runs whole agents in a simulation: unchanged mesh.Agents, connected to networks, disks, clocks, fail2bans,
// packet filters and a conductor in memory, which fail as a seed decides.
//
// Run takes a Config and returns a Result. It repeats: some time passes, then one thing happens, everyday load or a fault.
// Meanwhile it checks what must hold at all times. At quiet points it repairs all faults, waits until the members agree, and
// compares every set with the book of what was requested and answered.
//
// Everything runs in a testing/synctest bubble, so that months pass in minutes. A lock held during a wait must be a turn,
// because a goroutine waiting for a sync.Mutex stops the bubble's time. Run's goroutine drives the simulation; each agent has
// its own goroutines.
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

// Config says what to simulate. Zero fields take their defaults.
type Config struct {
	Seed        uint64
	Members     int           // default: 3 to 9, by the seed
	Length      time.Duration // simulated; default: a day
	Pause       time.Duration // mean time between two actions; default: 40 s
	Dir         string        // for the stores' files; best on a disk in memory
	MaxDuration time.Duration // bans.max_duration; default: a day
	Calm        bool          // load only, no faults
	Log         slog.Handler  // of the agents; may be nil
	Say         func(string)  // receives what happens; may be nil
}

// Result is the outcome of a simulation.
type Result struct {
	Faults  []string       // violations of what must always hold
	Marks   map[string]int // how often each rare branch was reached
	Days    float64
	Actions int
	Quiet   int    // number of quiet points
	Trace   uint64 // hash of what happened and when
}

// World is a running simulation.
type World struct {
	cfg     Config
	rng     *rand.Rand    // decides what is done; reseeded for each action, so that one action's course does not change the next ones
	when    *rand.Rand    // decides when something is done
	at      time.Duration // since the beginning: when the current action was due
	net     *simnet.Network
	began   time.Time
	members []*Member
	console *console

	conductorAddr netip.AddrPort
	sacredAddrs   atomic.Pointer[map[netip.Addr]bool] // addresses that nobody may ever ban

	book    *book
	later   []event      // what ends, by time
	calmAt  atomic.Int64 // since when nothing is wrong, in ns
	stepped bool         // some clock is wrong by more than a minute
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

// Run runs one simulation. It must be called in a bubble of testing/synctest, and leaves no goroutines in it.
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

// reached counts a mark.
func (w *World) reached(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.marks[name]++
}

// fault records a violation of what must always hold.
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

// sign adds an action to the trace: what it was and when it was due. The moment of its execution depends on agents that wait
// for each other, and on the scheduler.
func (w *World) sign(format string, args ...any) {
	h := fnv.New64a()
	fmt.Fprintf(h, "%x %d ", w.trace, w.at)
	fmt.Fprintf(h, format, args...)
	w.trace = h.Sum64()
}

// sacred reports whether a prefix contains an address that nobody may ever ban.
func (w *World) sacred(p netip.Prefix) bool {
	for a := range *w.sacredAddrs.Load() {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// calmFor reports whether no fault of network, members and clocks has begun or ended for that long.
func (w *World) calmFor(d time.Duration) bool { return time.Since(time.Unix(0, w.calmAt.Load())) >= d }

// troubled restarts that period.
func (w *World) troubled() { w.calmAt.Store(time.Now().UnixNano()) }

// in schedules something for later, or for when all faults are repaired.
func (w *World) in(d time.Duration, do func()) {
	w.later = append(w.later, event{time.Now().Add(d), do})
}

// open starts all members and waits until they agree.
func (w *World) open() bool {
	for _, m := range w.members {
		if err := os.MkdirAll(m.dir, 0o700); err != nil {
			w.fault("%v", err)
			return false
		}
		if err := m.start(); err != nil {
			w.fault("start %s: %v", m.name, err)
			return false
		}
	}
	return w.settle()
}

// close stops all members and leaves no goroutine.
func (w *World) close() {
	for _, m := range w.members {
		m.halt()
	}
	time.Sleep(10 * time.Minute) // memberlist leaves timers behind
	w.net.Close()
	synctest.Wait()
}

func (w *World) run() {
	defer w.close()
	if !w.open() {
		return
	}
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
}

// resume continues at a round time, since reaching agreement takes a different time in each run.
func (w *World) resume() {
	const round = 5 * time.Minute
	w.at = (time.Since(w.began)/round + 1) * round
	w.rng = rand.New(rand.NewPCG(w.cfg.Seed, uint64(w.acts)<<8|1))
}

// between returns the time of the next quiet point: mostly within the hour, sometimes half a day away.
func (w *World) between() time.Duration {
	d := 10*time.Minute + time.Duration(w.when.Int64N(int64(40*time.Minute)))
	if w.when.IntN(8) == 0 {
		d = time.Duration(w.when.Int64N(int64(12 * time.Hour)))
	}
	return w.at + d
}

// step lets some time pass, then makes one thing happen.
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

// pass lets time pass: it ends what is over by then, and checks every few seconds what must hold at all times.
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

// end ends what is over.
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
		w.troubled()
		e.do()
	}
}

func (w *World) running() []*Member {
	return slices.DeleteFunc(slices.Clone(w.members), func(m *Member) bool { return !m.running() })
}

// some picks a running member; nil if there is none.
func (w *World) some() *Member {
	if r := w.running(); len(r) > 0 {
		return r[w.rng.IntN(len(r))]
	}
	return nil
}

// now names the current action, for the trace and for faults found meanwhile.
func (w *World) now(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.mu.Lock()
	w.current = text
	w.mu.Unlock()
	w.sign("%s", text)
	w.say("%s", text)
}

// say tells what happens to whoever watches.
func (w *World) say(format string, args ...any) {
	if w.cfg.Say != nil {
		w.cfg.Say(fmt.Sprintf("%12v ", time.Since(w.began).Round(time.Millisecond)) + fmt.Sprintf(format, args...))
	}
}

// hallow makes the addresses in use sacred. It is called once all members know all of them.
func (w *World) hallow() {
	all := map[netip.Addr]bool{w.conductorAddr.Addr(): true}
	for _, m := range w.members {
		all[m.addr.Addr()] = true
	}
	w.sacredAddrs.Store(&all)
}
