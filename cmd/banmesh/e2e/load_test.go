package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/mesh/control"
)

// The load that a mesh of ten routers must carry.
const (
	loadAgents = 10
	loadRate   = 1000 // bans a second, over all
	// loadCallers is how many calls one agent has under way at most.
	loadCallers = 8
	// loadLatency is the bar for the slowest hundredth, from when it was due until
	// another router has it.
	loadLatency = time.Second
	// loadOthers is the share of the processors, in percent, with which other programs spoil that.
	loadOthers = 15
)

// TestFiguresAMinuteOfLoad: a thousand bans a second, one call each, spread over
// ten routers, with a conductor.
func TestFiguresAMinuteOfLoad(t *testing.T) { carry(t, time.Minute) }

// TestSoakLoad is the same for ten minutes, or as long as the soak lasts.
func TestSoakLoad(t *testing.T) { carry(t, max(10*time.Minute, need.Soak(t))) }

// load is the mesh under load, and what was seen of it.
type load struct {
	t      *testing.T
	agents []*agent
	given  atomic.Int64

	mu    sync.Mutex
	calls map[netip.Prefix]time.Time // when the call for it was due
	took  []time.Duration            // from there until a watched router that is not its own told of it
	slow  []time.Duration            // until the call was answered
	lost  int                        // events that a watcher was too slow for
	late  []string                   // what took longer than its bar
}

func carry(t *testing.T, length time.Duration) {
	cond := startConductor(t, "--commit-delay", "500ms")
	l := &load{t: t, calls: make(map[netip.Prefix]time.Time)}
	l.agents = fleet(t, loadAgents, settings{commit: cond.commitTo(""), extra: "log: {level: warn}\n"})
	leaderOf(t, l.agents)
	ctx, stop := context.WithCancel(t.Context())
	var watchers sync.WaitGroup
	for _, i := range []int{0, 9} {
		watchers.Go(func() { l.watch(ctx, l.agents[i]) })
	}
	defer watchers.Wait()
	defer stop()
	began, ours, all := time.Now(), l.spent(), busy(t)
	var writers sync.WaitGroup
	for i, a := range l.agents {
		writers.Go(func() { l.write(ctx, a, i, length) })
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	l.observe(done)
	spent := time.Since(began)
	total := int(l.given.Load())
	t.Logf("%d bans in %v: %.0f a second", total, spent.Round(time.Millisecond), float64(total)/spent.Seconds())
	if want := int(length.Seconds()) * loadRate; total != want {
		t.Errorf("%d bans, want %d", total, want)
	}
	if spent > length+5*time.Second {
		l.late = append(l.late, fmt.Sprintf("%d bans took %v, want %v", total, spent, length))
	}
	ours, all = l.spent()-ours, busy(t)-all
	share := func(cpu time.Duration) float64 {
		return 100 * cpu.Seconds() / spent.Seconds() / float64(runtime.NumCPU())
	}
	others := share(all - ours)
	t.Logf("the agents and their callers took %.0f %% of the processors, %v a ban, and other programs %.0f %%", share(ours), ours/time.Duration(total), others)

	settled := time.Now()
	for _, a := range l.agents {
		eventually(t, 15*time.Second, fmt.Sprintf("%d bans at %s", total, a.name), func() bool { return a.status().Bans.Live == total })
	}
	oneRoot(t, 15*time.Second, l.agents)
	t.Logf("all on all ten, with equal roots, %v after the last", time.Since(settled).Round(time.Millisecond))
	l.memory("in the end")

	// At most three commits at once, then one each min_interval.
	commits, most := cond.commits(t), 3+int(time.Since(began)/(30*time.Second))+1
	t.Logf("%d commits, at most %d allowed; tenant of %d", commits, most, len(cond.running(t)))
	if commits > most || commits == 0 {
		t.Errorf("%d commits for %d bans, want 1 to %d", commits, total, most)
	}
	l.latency()
	switch {
	case len(l.late) > 0 && others > loadOthers:
		t.Skipf("not judged, because other programs took %.0f %% of the processors: %s", others, strings.Join(l.late, "; "))
	case len(l.late) > 0:
		t.Error(strings.Join(l.late, "; "))
	}
}

// spent is the CPU time of the agents and of their callers, which are this process.
func (l *load) spent() time.Duration {
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		l.t.Fatal(err)
	}
	sum := time.Duration(self.Utime.Nano() + self.Stime.Nano())
	for _, a := range l.agents {
		sum += cpuTime(l.t, a.cmd.Process.Pid)
	}
	return sum
}

// busy is the time that the processors of this machine were not idle, of which a part may have gone to other machines
// (proc(5)).
func busy(t *testing.T) time.Duration {
	t.Helper()
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	var sum time.Duration
	for i, f := range strings.Fields(first)[1:9] {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		if i != 3 && i != 4 { // idle, waiting for a disk
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}

// fleet is n agents that know each other; the first is everybody's seed.
func fleet(t *testing.T, n int, s settings) []*agent {
	t.Helper()
	all := []*agent{newAgent(t, "router01", s).start()}
	s.join = all[:1]
	for i := 1; i < n; i++ {
		a := newAgent(t, fmt.Sprintf("router%02d", i+1), s)
		a.launch()
		all = append(all, a)
	}
	for _, a := range all[1:] {
		answers(t, 20*time.Second, a)
	}
	awaitMembers(t, all, n)
	return all
}

// answers waits until an agent that was launched does, by its socket.
func answers(t *testing.T, patience time.Duration, a *agent) {
	t.Helper()
	eventually(t, patience, a.name+" to answer", func() bool {
		if a.hasEnded() {
			t.Fatalf("%s ended at its start:\n%s", a.name, a.readLog())
		}
		_, err := asked(t, a)
		return err == nil
	})
}

// asked is the status of an agent, by its socket and without a process.
func asked(t *testing.T, a *agent) (control.Status, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return control.NewClient(a.socket).Status(ctx)
}

// oneRoot waits until all have the same set.
func oneRoot(t *testing.T, patience time.Duration, all []*agent) {
	t.Helper()
	eventually(t, patience, "equal roots", func() bool {
		var roots []string
		for _, a := range all {
			s, err := asked(t, a)
			if err != nil {
				return false
			}
			roots = append(roots, s.Root)
		}
		slices.Sort(roots)
		return len(slices.Compact(roots)) == 1
	})
}

// write bans at one agent, evenly, one address a call. Several calls are under way
// at a time, as where several hooks run, and what falls behind is caught up with.
func (l *load) write(ctx context.Context, a *agent, part int, length time.Duration) {
	client := control.NewClient(a.socket)
	pace := time.Second * loadAgents / loadRate
	began := time.Now()
	var next atomic.Int64
	var callers sync.WaitGroup
	for range loadCallers {
		callers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				due := began.Add(time.Duration(i) * pace)
				if i >= int(length/pace) {
					return
				}
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Until(due)):
				}
				p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + part), byte(i >> 16), byte(i >> 8), byte(i)}), 32)
				if err := l.ban(ctx, client, p, due); err != nil {
					l.t.Errorf("ban at %s: %v", a.name, err)
					return
				}
			}
		})
	}
	callers.Wait()
}

func (l *load) ban(ctx context.Context, client *control.Client, p netip.Prefix, due time.Time) error {
	l.mu.Lock()
	l.calls[p] = due
	l.mu.Unlock()
	_, err := client.Ban(ctx, control.BanCall{
		Prefixes: control.Prefixes{p}, Jail: "sshd", Start: control.At(due), Until: control.UntilAt(due.Add(time.Hour)), Failures: 5,
	})
	l.mu.Lock()
	l.slow = append(l.slow, time.Since(due))
	l.mu.Unlock()
	l.given.Add(1)
	return err
}

// watch notes when one agent tells of the others' bans.
func (l *load) watch(ctx context.Context, a *agent) {
	err := control.NewClient(a.socket).Events(ctx, func(e control.Event) error {
		now := time.Now()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lost += e.Lost
		if e.Event != "ban" || e.Origin == a.name {
			return nil
		}
		p, err := netip.ParsePrefix(e.Prefix)
		if began, ok := l.calls[p]; ok {
			l.took = append(l.took, now.Sub(began))
		}
		return err
	})
	if err != nil && ctx.Err() == nil {
		l.t.Errorf("events of %s: %v", a.name, err)
	}
}

// observe looks at every agent now and then until done.
func (l *load) observe(done <-chan struct{}) {
	l.t.Helper()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		l.memory("")
		if n%4 == 3 {
			l.memory(fmt.Sprintf("after %d s", 5*(n+1)))
		}
	}
}

// What an agent may take under load: what it takes anyway and while it is busy,
// and what each ban adds, which is 256 bytes at rest and as much again until the
// collector has been.
const (
	loadBase   = 96 << 20
	loadPerBan = 640
	loadFiles  = 200
)

// memory holds each agent's memory and open files, of which a queue of callers
// would be made, against their bounds.
func (l *load) memory(say string) {
	l.t.Helper()
	given := int(l.given.Load())
	var most, files int
	for _, a := range l.agents {
		pid := a.cmd.Process.Pid
		rss := 1024 * statusKB(l.t, pid, "RssAnon")
		most = max(most, rss)
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			l.t.Fatal(err)
		}
		files = max(files, len(open))
		if rss > loadBase+given*loadPerBan {
			l.t.Errorf("%s takes %d MB of anonymous memory for %d bans", a.name, rss>>20, given)
		}
		if len(open) > loadFiles {
			l.t.Errorf("%s has %d files open", a.name, len(open))
		}
	}
	if say != "" {
		l.t.Logf("%s: %d bans; at most %d MB of anonymous memory and %d open files an agent", say, given, most>>20, files)
	}
}

// latency holds what the watchers saw against the bar.
func (l *load) latency() {
	l.t.Helper()
	total := int(l.given.Load())
	want := 2 * total * (loadAgents - 1) / loadAgents
	eventually(l.t, 10*time.Second, "the watchers to have seen all", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.took)+l.lost >= want
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost > want/1000 {
		l.t.Errorf("%d of %d events were lost to watchers that were too slow", l.lost, want)
	}
	l.t.Logf("answered:  %s", percentiles(l.slow))
	l.t.Logf("elsewhere: %s", percentiles(l.took))
	if p99 := l.took[len(l.took)*99/100]; p99 > loadLatency {
		l.late = append(l.late, fmt.Sprintf("the slowest hundredth of the bans was on other routers after %v or more, want %v", p99, loadLatency))
	}
}

// percentiles sorts d.
func percentiles(d []time.Duration) string {
	slices.Sort(d)
	var out []string
	for _, p := range []int{50, 90, 99} {
		out = append(out, fmt.Sprintf("p%d %v", p, d[len(d)*p/100].Round(100*time.Microsecond)))
	}
	return fmt.Sprintf("%d: %s, all within %v", len(d), strings.Join(out, ", "), d[len(d)-1].Round(100*time.Microsecond))
}
