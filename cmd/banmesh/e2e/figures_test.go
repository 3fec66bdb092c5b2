package e2e

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"banmesh/mesh/control"
)

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// quietest measures a median up to five times and holds the best against the
// bar: the bars are those of an idle machine, and what else runs on this one only
// ever adds.
func quietest(t *testing.T, what string, bar time.Duration, measure func(round int) []time.Duration) {
	t.Helper()
	best := time.Duration(math.MaxInt64)
	for round := range 5 {
		took := measure(round)
		best = min(best, median(took))
		t.Logf("%s: median %v, 90th of 100 %v", what, median(took), took[len(took)*9/10])
		if best < bar {
			return
		}
	}
	t.Errorf("%s: %v in the best median, want under %v", what, best, bar)
}

// emptyProcess is how long a Go program that does nothing takes here, from its
// start to its end: the yardstick of what a process costs on this machine.
func emptyProcess(t *testing.T) time.Duration {
	t.Helper()
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "empty")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", program, source).CombinedOutput(); err != nil {
		t.Fatalf("build an empty program: %v: %s", err, out)
	}
	var took []time.Duration
	for range 200 {
		began := time.Now()
		if err := exec.Command(program).Run(); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	return median(took)
}

// TestFiguresBanIsAcknowledged: the whole process, from its start to its end
// with the ban on disk, in 5 ms where an empty process takes 1 ms, and in
// proportion where processes are slower.
func TestFiguresBanIsAcknowledged(t *testing.T) {
	a := newAgent(t, "router1", settings{extra: "log: {level: error}\n"}).start()
	empty := emptyProcess(t)
	t.Logf("an empty process: median %v", empty)
	given := 0
	quietest(t, "ban acknowledged", max(5*time.Millisecond, 5*empty), func(round int) (took []time.Duration) {
		for i := range 200 {
			cmd := exec.Command(banmesh, "ban", fmt.Sprintf("198.18.%d.%d", round, i), "--for", "1h", "--socket", a.socket)
			began := time.Now()
			if err := cmd.Run(); err != nil {
				t.Fatalf("ban: %v", err)
			}
			took = append(took, time.Since(began))
			given++
		}
		return took
	})
	if live := a.status().Bans.Live; live != given {
		t.Errorf("%d bans live, want %d", live, given)
	}
}

// TestFiguresBanIsSeenByTheOthers: from the start of the command at one router
// until the lists of both others show the ban.
func TestFiguresBanIsSeenByTheOthers(t *testing.T) {
	agents := trio(t, settings{extra: "log: {level: error}\n"})
	var others []*control.Client
	for _, x := range agents[1:] {
		others = append(others, control.NewClient(x.socket))
	}
	quietest(t, "ban in the lists of both others", 20*time.Millisecond, func(round int) (took []time.Duration) {
		for i := range 100 {
			prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(round), byte(i)}), 32)
			cmd := exec.Command(banmesh, "ban", prefix.String(), "--for", "1h", "--socket", agents[0].socket)
			began := time.Now()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for _, c := range others {
				for !lists(t, c, prefix) {
					if time.Since(began) > 5*time.Second {
						t.Fatalf("%v is not at both others after 5 s", prefix)
					}
				}
			}
			took = append(took, time.Since(began))
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
		}
		return took
	})
}

func lists(t *testing.T, c *control.Client, prefix netip.Prefix) bool {
	t.Helper()
	found := false
	err := c.List(t.Context(), control.ListQuery{Prefix: prefix}, func(b control.Ban) error {
		found = found || b.Prefix == prefix.String()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestFiguresIdleAgent: memory and time of an agent with peers and nothing to do.
func TestFiguresIdleAgent(t *testing.T) {
	// The default pace of the gossip, not the tests' own.
	agents := trio(t, settings{gossip: `{bind: "127.0.0.1:0", profile: lan}`})
	pid := agents[0].cmd.Process.Pid
	const watch = 20 * time.Second
	before := cpuTime(t, pid)
	time.Sleep(watch) // what is measured is doing nothing
	used := cpuTime(t, pid) - before
	share := 100 * used.Seconds() / watch.Seconds()
	rss := statusKB(t, pid, "VmRSS")
	t.Logf("idle agent: %.1f MB resident (%.1f MB anonymous), %.2f %% of a core", float64(rss)/1024, float64(statusKB(t, pid, "RssAnon"))/1024, share)
	if rss >= 30*1024 {
		t.Errorf("an idle agent takes %d KiB, want under 30 MiB", rss)
	}
	if share >= 1 {
		t.Errorf("an idle agent takes %.2f %% of a core, want under 1", share)
	}
}

// cpuTime is utime + stime of /proc/PID/stat, in ticks of 10 ms (proc(5)).
func cpuTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
	var ticks int
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func statusKB(t *testing.T, pid int, key string) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("/proc/%d/status has no %s", pid, key)
	return 0
}

// TestHookReturnsWhateverTheAgentDoes: fail2ban waits for its hooks with all its
// jails, so a frozen agent must not hold one up; the call waits in the spool.
func TestHookReturnsWhateverTheAgentDoes(t *testing.T) {
	a := newAgent(t, "router1", settings{}).start()
	spool := a.dir + "/data/spool"
	hook := func(addr string) (result, time.Duration) {
		began := time.Now()
		r := a.run("fail2ban", "ban", "--jail=sshd", "--ip="+addr, fmt.Sprintf("--time=%d", time.Now().Unix()), "--bantime=600",
			"--failures=5", "--restored=0", "--spool", spool)
		return r, time.Since(began)
	}
	check := func(what, addr string) {
		t.Helper()
		r, took := hook(addr)
		if r.code != 0 || r.out != "" {
			t.Errorf("%s: exit %d, stdout %q, want 0 and nothing", what, r.code, r.out)
		}
		if took > time.Second {
			t.Errorf("%s: the hook took %v, want at most 1 s", what, took)
		}
	}
	check("a living agent", "203.0.113.1")
	a.cmd.Process.Signal(syscall.SIGSTOP)
	check("a frozen agent", "203.0.113.2")
	a.cmd.Process.Signal(syscall.SIGCONT)
	eventually(t, 5*time.Second, "the call of the frozen time", func() bool { return a.banned("203.0.113.2/32") != nil })
	a.kill()
	check("no agent", "203.0.113.3")
	a.start()
	eventually(t, 5*time.Second, "the call of the time without an agent", func() bool { return a.banned("203.0.113.3/32") != nil })
	if len(a.list()) != 3 {
		t.Errorf("%d bans, want 3", len(a.list()))
	}
}
