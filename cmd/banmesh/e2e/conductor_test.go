package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/internal/sim/conductorsim"
	"banmesh/internal/sim/conductorsim/history"
)

// conductor is `banmesh conductor sim` as a process.
type conductor struct {
	dir, addr string
	rest      string // its URL, where --rest was given
}

func startConductor(t testing.TB, args ...string) *conductor {
	t.Helper()
	return startConductorAt(t, nil, "127.0.0.1:0", args...)
}

// startConductorAt runs it by another command, as `ip netns exec NAME`.
func startConductorAt(t testing.TB, wrap []string, listen string, args ...string) *conductor {
	t.Helper()
	c := &conductor{dir: shortDir(t)}
	call := slices.Concat(wrap, []string{banmesh, "conductor", "sim", "--listen", listen, "--dir", c.dir}, args)
	cmd := exec.Command(call[0], call[1:]...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	lines := bufio.NewReader(out)
	ready := func() string {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("conductor sim did not say that it is ready: %v", err)
		}
		return strings.TrimSpace(line[strings.LastIndexByte(strings.TrimSpace(line), ' ')+1:])
	}
	c.addr = ready()
	if slices.Contains(args, "--rest") {
		c.rest = ready()
	}
	return c
}

// commitTo is a commit section for it.
func (c *conductor) commitTo(more string) string {
	return fmt.Sprintf("{driver: netconf, conductors: [%q], key: %s, known_hosts: %s, timeout: 20s%s}",
		c.addr, filepath.Join(c.dir, "client_key"), filepath.Join(c.dir, "known_hosts"), more)
}

var addressLeaf = regexp.MustCompile(`<(?:\w+:)?address[^>]*>([^<]+)</`)

// running are the addresses in its running configuration, as its file has them.
func (c *conductor) running(t testing.TB) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(c.dir, "running.xml"))
	if err != nil {
		return nil // nothing was committed yet
	}
	var out []string
	for _, m := range addressLeaf.FindAllSubmatch(b, -1) {
		out = append(out, strings.TrimSpace(string(m[1])))
	}
	slices.Sort(out)
	return out
}

func (c *conductor) holds(t testing.TB, want ...string) func() bool {
	slices.Sort(want)
	return func() bool { return slices.Equal(c.running(t), want) }
}

// commits is how often running changed, by the conductor's own history.
func (c *conductor) commits(t testing.TB) int {
	t.Helper()
	n := 0
	for _, e := range c.history(t) {
		if e.Kind == history.Running {
			n++
		}
	}
	return n
}

// history is all that the conductor remembers of its life.
func (c *conductor) history(t testing.TB) []history.Event {
	t.Helper()
	events, err := history.ReadFile(filepath.Join(c.dir, "history.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// control steers it: faults, other administrators.
func (c *conductor) control(t testing.TB) *conductorsim.Control {
	t.Helper()
	control, err := conductorsim.DialControl(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { control.Close() })
	return control
}

const quick = ", window: 300ms, max_wait: 1s"

func TestAnotherRouterCommitsWhenTheLeaderIsKilled(t *testing.T) {
	t.Parallel()
	cond := startConductor(t)
	agents := trio(t, settings{commit: cond.commitTo(quick)})
	lead, others := leaderOf(t, agents)
	others[0].must("ban", "203.0.113.1", "--for", "1h")
	eventually(t, 15*time.Second, "the first commit", cond.holds(t, "203.0.113.1/32"))

	lead.kill()
	killed := time.Now()
	others[0].must("ban", "203.0.113.2", "--for", "1h")
	eventually(t, 20*time.Second, "another router's commit", cond.holds(t, "203.0.113.1/32", "203.0.113.2/32"))
	t.Logf("committed %v after the kill", time.Since(killed).Round(10*time.Millisecond))

	t.Log("the killed one comes back, has everything, and does not take the lead back")
	next, _ := leaderOf(t, others)
	lead.start()
	eventually(t, 15*time.Second, "both bans at "+lead.name, func() bool { return len(lead.list()) == 2 })
	eventually(t, 15*time.Second, lead.name+" to follow", func() bool {
		s := lead.status()
		return s.Leader != nil && *s.Leader == next.name
	})
}

func TestLeaveAndJoinChangeTheMembers(t *testing.T) {
	t.Parallel()
	agents := trio(t, settings{})
	a, c := agents[0], agents[2]
	a.must("ban", "203.0.113.1", "--for", "1h")
	eventually(t, 5*time.Second, "the ban at router3", func() bool { return c.banned("203.0.113.1/32") != nil })
	c.must("ban", "203.0.113.3", "--for", "1h")
	eventually(t, 5*time.Second, "the ban at router1", func() bool { return a.banned("203.0.113.3/32") != nil })
	home := a.addr()

	c.must("leave")
	select {
	case <-c.ended:
	case <-time.After(10 * time.Second):
		t.Fatal("router3 has not ended 10 s after its leave")
	}
	if code := c.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("router3 ended with exit code %d after its leave, want 0", code)
	}
	for _, x := range agents[:2] {
		eventually(t, 5*time.Second, x.name+" to see router3 left", func() bool {
			return slices.ContainsFunc(x.members(), func(m member) bool { return m.Name == "router3" && m.State == "left" })
		})
		if x.banned("203.0.113.3/32") == nil {
			t.Errorf("router3's ban has left with it at %s", x.name)
		}
	}

	t.Log("one that was never told of the others joins by command, and remembers")
	d := newAgent(t, "router4", settings{}).start()
	d.must("join", home)
	awaitMembers(t, []*agent{a, agents[1], d}, 3)
	eventually(t, 10*time.Second, "both bans at router4", func() bool { return len(d.list()) == 2 })
	if took := d.terminate(); took > 5*time.Second {
		t.Errorf("a clean stop took %v, want at most 5 s", took)
	}
	d.start()
	awaitMembers(t, []*agent{a, agents[1], d}, 3)
}

func TestBansAreSharedWithoutAConductor(t *testing.T) {
	t.Parallel()
	cond := startConductor(t)
	nobody := fmt.Sprintf("{driver: netconf, conductors: [\"127.0.0.1:1\"], key: %s, known_hosts: %s, timeout: 5s%s}",
		filepath.Join(cond.dir, "client_key"), filepath.Join(cond.dir, "known_hosts"), quick)
	agents := trio(t, settings{commit: nobody})
	agents[1].must("ban", "203.0.113.1", "--for", "1h")
	for _, x := range agents {
		eventually(t, 5*time.Second, "the ban at "+x.name, func() bool { return x.banned("203.0.113.1/32") != nil })
		eventually(t, 20*time.Second, x.name+" to say that no conductor can be reached", func() bool {
			s := x.status()
			return s.Leader == nil && s.Commit.State == "failing" && s.Commit.LastError != nil &&
				slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, "127.0.0.1:1") })
		})
	}
}

// TestOneSecondStorm: a thousand bans given in a second to one router are at
// all routers and in running, in at most three commits.
func TestOneSecondStorm(t *testing.T) {
	cond := startConductor(t, "--commit-delay", "500ms")
	agents := trio(t, settings{commit: cond.commitTo("")})
	leaderOf(t, agents)
	const bans = 1000
	var want []string
	began := time.Now()
	for first := 0; first < bans; first += 100 {
		args := []string{"ban", "--for", "1h"}
		for i := first; i < first+100; i++ {
			addr := fmt.Sprintf("198.18.%d.%d", i/250, i%250+1)
			args, want = append(args, addr), append(want, addr+"/32")
		}
		agents[0].must(args...)
	}
	t.Logf("%d bans given in %v", bans, time.Since(began).Round(time.Millisecond))
	for _, x := range agents {
		eventually(t, 10*time.Second, "all bans at "+x.name, func() bool { return x.status().Bans.Live == bans })
	}
	eventually(t, 40*time.Second, "all bans in running", cond.holds(t, want...))
	if got := cond.commits(t); got > 3 {
		t.Errorf("%d commits for a storm of %d bans, want at most 3", got, bans)
	} else {
		t.Logf("%d commits, complete after %v", got, time.Since(began).Round(time.Millisecond))
	}
}
