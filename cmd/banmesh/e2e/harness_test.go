package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// banmesh is the program under test, built once, static as it is shipped.
var banmesh string

func TestMain(m *testing.M) {
	// Those that say that they may run beside others wait most of the time.
	flag.Set("test.parallel", "4")
	flag.Parse() // where the command line says something else, that holds
	if testing.Short() {
		fmt.Println("the tests of whole programs take long: left out by -short")
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "banmesh-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	banmesh = filepath.Join(dir, "banmesh")
	if err := compile(banmesh, "banmesh/cmd/banmesh", "dev"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// compile builds a program static, as it is shipped: with settings of its own, each test
// would compile everything anew.
func compile(program, pkg, version string) error {
	build := exec.Command("go", "build", "-tags", "urfave_cli_no_docs", "-trimpath", "-ldflags", "-s -w -X main.version="+version, "-o", program, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// result is what a command line came to.
type result struct {
	out, err string
	code     int
}

// command runs banmesh and waits for it, at most 30 s.
func command(t testing.TB, env []string, args ...string) result {
	t.Helper()
	cmd := exec.Command(banmesh, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("banmesh %v: %v", args, err)
	}
	return result{out.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// agent is one agent as a process.
type agent struct {
	t      testing.TB
	name   string
	dir    string
	config string // the file
	socket string
	wrap   []string // the command that runs it, as `ip netns exec NAME`
	attr   *syscall.SysProcAttr
	cmd    *exec.Cmd
	log    string
	ended  chan struct{}
}

// settings are the lines of the configuration beyond what every test needs.
type settings struct {
	join     []*agent
	commit   string // YAML of the section commit, in one line
	fail2ban string // likewise
	gossip   string // likewise; default loopback and the profile for tests
	extra    string // further lines
	dir      string // shared or kept over restarts; default a new one
	wrap     []string
	peers    []string // addresses to join, beside those of join
}

// newAgent writes the configuration of an agent; start runs it.
func newAgent(t testing.TB, name string, s settings) *agent {
	t.Helper()
	a := &agent{t: t, name: name, dir: s.dir, wrap: s.wrap}
	if a.dir == "" {
		a.dir = shortDir(t)
	}
	a.socket, a.config, a.log = filepath.Join(a.dir, "s"), filepath.Join(a.dir, "banmesh.yaml"), filepath.Join(a.dir, "log")
	var y strings.Builder
	fmt.Fprintf(&y, "name: %s\ndata_dir: %s\nsocket: %s\n", name, filepath.Join(a.dir, "data"), a.socket)
	if s.gossip == "" {
		s.gossip = fmt.Sprintf("{bind: %q, profile: local}", ownAddr(t))
	}
	fmt.Fprintf(&y, "gossip: %s\n", s.gossip)
	var join []string
	for _, addr := range s.peers {
		join = append(join, fmt.Sprintf("%q", addr))
	}
	for _, other := range s.join {
		join = append(join, fmt.Sprintf("%q", other.addr()))
	}
	fmt.Fprintf(&y, "join: [%s]\n", strings.Join(join, ", "))
	if s.fail2ban == "" {
		s.fail2ban = "{unban: false}"
	}
	fmt.Fprintf(&y, "fail2ban: %s\n", s.fail2ban)
	if s.commit != "" {
		fmt.Fprintf(&y, "commit: %s\n", s.commit)
	}
	y.WriteString(s.extra)
	if err := os.WriteFile(a.config, []byte(y.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// freeAddr is an address that nothing listens on now, for an agent that must be
// found there again after a restart.
func freeAddr(t testing.TB) string {
	t.Helper()
	return freeAt(t, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
}

// ownAddr is one that stays free while its agent is dead: it is among the many of
// the loopback network, where no connection of others takes its port.
func ownAddr(t testing.TB) string {
	t.Helper()
	return freeAt(t, netip.AddrFrom4([4]byte{127, byte(1 + rand.IntN(254)), byte(rand.IntN(256)), byte(1 + rand.IntN(254))}))
}

func freeAt(t testing.TB, host netip.Addr) string {
	t.Helper()
	ln, err := net.Listen("tcp", netip.AddrPortFrom(host, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// shortDir is a temporary directory whose paths fit a unix socket's.
func shortDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "bm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// start runs the agent until the test ends and waits until it answers.
func (a *agent) start(args ...string) *agent {
	a.t.Helper()
	a.launch(args...)
	eventually(a.t, 15*time.Second, a.name+" to answer", func() bool {
		if a.hasEnded() {
			a.t.Fatalf("%s ended at its start:\n%s", a.name, a.readLog())
		}
		return command(a.t, nil, "status", "--json", "--socket", a.socket).code == 0
	})
	return a
}

func (a *agent) launch(args ...string) {
	a.t.Helper()
	log, err := os.OpenFile(a.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		a.t.Fatal(err)
	}
	defer log.Close()
	line := slices.Concat(a.wrap, []string{banmesh, "agent", "--config", a.config}, args)
	a.cmd = exec.Command(line[0], line[1:]...)
	a.cmd.Stdout, a.cmd.Stderr, a.cmd.SysProcAttr = log, log, a.attr
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	ended := make(chan struct{})
	a.ended = ended
	cmd := a.cmd
	go func() { cmd.Wait(); close(ended) }()
	a.t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		if a.t.Failed() {
			a.t.Logf("log of %s:\n%s", a.name, tail(a.readLog(), 60))
		}
	})
}

func (a *agent) hasEnded() bool {
	select {
	case <-a.ended:
		return true
	default:
		return false
	}
}

// kill ends the agent without a word.
func (a *agent) kill() {
	a.t.Helper()
	a.cmd.Process.Kill()
	<-a.ended
}

// terminate stops the agent as systemd does and returns how long it took.
func (a *agent) terminate() time.Duration {
	a.t.Helper()
	began := time.Now()
	a.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-a.ended:
	case <-time.After(15 * time.Second):
		a.t.Fatalf("%s has not stopped 15 s after SIGTERM", a.name)
	}
	return time.Since(began)
}

func (a *agent) readLog() string {
	b, _ := os.ReadFile(a.log)
	return string(b)
}

func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// run is a command line that talks to this agent.
func (a *agent) run(args ...string) result {
	a.t.Helper()
	return command(a.t, nil, append(args, "--socket", a.socket)...)
}

// must is run, where anything but success ends the test.
func (a *agent) must(args ...string) string {
	a.t.Helper()
	r := a.run(args...)
	if r.code != 0 {
		a.t.Fatalf("banmesh %s at %s: exit %d: %s%s", strings.Join(args, " "), a.name, r.code, r.out, r.err)
	}
	return r.out
}

// pipe is must for a command that reads what is given to it.
func (a *agent) pipe(text string, args ...string) string {
	a.t.Helper()
	cmd := exec.Command(banmesh, append(args, "--socket", a.socket)...)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err != nil {
		a.t.Fatalf("banmesh %s at %s: %v: %s", strings.Join(args, " "), a.name, err, out)
	}
	return string(out)
}

// The JSON of the contract, as an outsider reads it.
type (
	listed struct {
		Prefix    string   `json:"prefix"`
		Effective bool     `json:"effective"`
		Until     *string  `json:"until"`
		Committed bool     `json:"committed"`
		Records   []record `json:"records"`
	}
	record struct {
		Origin   string  `json:"origin"`
		Jail     string  `json:"jail"`
		Start    string  `json:"start"`
		Until    *string `json:"until"`
		Failures int     `json:"failures"`
	}
	member struct {
		Name   string `json:"name"`
		Addr   string `json:"addr"`
		State  string `json:"state"`
		Self   bool   `json:"self"`
		Leader bool   `json:"leader"`
		InSync bool   `json:"in_sync"`
	}
	status struct {
		Leader  *string `json:"leader"`
		Term    uint64  `json:"term"`
		InSync  bool    `json:"in_sync"`
		Root    string  `json:"root"`
		Members struct {
			Alive  int `json:"alive"`
			Failed int `json:"failed"`
		} `json:"members"`
		Bans struct {
			Live      int `json:"live"`
			Effective int `json:"effective"`
			Own       int `json:"own"`
		} `json:"bans"`
		Commit struct {
			Driver        string  `json:"driver"`
			State         string  `json:"state"`
			Detail        string  `json:"detail"`
			Committed     int     `json:"committed"`
			PendingAdd    int     `json:"pending_add"`
			PendingRemove int     `json:"pending_remove"`
			Foreign       int     `json:"foreign"`
			Commits       uint64  `json:"commits"`
			LastError     *string `json:"last_error"`
		} `json:"commit"`
		Spooled int `json:"spooled"`
		Store   *struct {
			Healthy bool `json:"healthy"`
			Silent  bool `json:"silent"`
		} `json:"store"`
		Warnings []string `json:"warnings"`
	}
)

func read[T any](a *agent, args ...string) T {
	a.t.Helper()
	var v T
	if err := json.Unmarshal([]byte(a.must(append(args, "--json")...)), &v); err != nil {
		a.t.Fatalf("banmesh %v --json at %s: %v", args, a.name, err)
	}
	return v
}

func (a *agent) list() []listed    { a.t.Helper(); return read[[]listed](a, "list") }
func (a *agent) members() []member { a.t.Helper(); return read[[]member](a, "members") }
func (a *agent) status() status    { a.t.Helper(); return read[status](a, "status") }

func (a *agent) addr() string {
	a.t.Helper()
	for _, m := range a.members() {
		if m.Self {
			return m.Addr
		}
	}
	a.t.Fatalf("%s is not among its own members", a.name)
	return ""
}

// banned is the entry of a prefix, nil where it is not banned.
func (a *agent) banned(prefix string) *listed {
	a.t.Helper()
	list := a.list()
	if i := slices.IndexFunc(list, func(l listed) bool { return l.Prefix == prefix }); i >= 0 {
		return &list[i]
	}
	return nil
}

// eventually waits for cond. To ask mostly means to start a program, so it asks the
// less often the longer it waits: in all it waits a twentieth too long.
func eventually(t testing.TB, patience time.Duration, what string, cond func() bool) {
	t.Helper()
	for began := time.Now(); !cond(); {
		waited := time.Since(began)
		if waited > patience {
			t.Fatalf("waited %v for %s", patience, what)
		}
		time.Sleep(min(max(waited/20, 20*time.Millisecond), 250*time.Millisecond))
	}
}

// trio is three agents that know each other.
func trio(t testing.TB, s settings) []*agent {
	t.Helper()
	a := newAgent(t, "router1", s).start()
	s.join = []*agent{a}
	b := newAgent(t, "router2", s).start()
	c := newAgent(t, "router3", s).start()
	all := []*agent{a, b, c}
	awaitMembers(t, all, 3)
	return all
}

func awaitMembers(t testing.TB, all []*agent, alive int) {
	t.Helper()
	for _, a := range all {
		eventually(t, 20*time.Second, fmt.Sprintf("%s to see %d members", a.name, alive), func() bool {
			return a.status().Members.Alive == alive
		})
	}
}

// leaderOf waits until all name the same leader, and returns it and the others.
func leaderOf(t testing.TB, all []*agent) (lead *agent, others []*agent) {
	t.Helper()
	return leaderWithin(t, 20*time.Second, all)
}

func leaderWithin(t testing.TB, patience time.Duration, all []*agent) (lead *agent, others []*agent) {
	t.Helper()
	var name string
	eventually(t, patience, "one leader", func() bool {
		name = ""
		for _, a := range all {
			s := a.status()
			if s.Leader == nil || (name != "" && *s.Leader != name) {
				return false
			}
			name = *s.Leader
		}
		return true
	})
	for _, a := range all {
		if a.name == name {
			lead = a
		} else {
			others = append(others, a)
		}
	}
	if lead == nil {
		t.Fatalf("the leader %s is none of the agents", name)
	}
	return lead, others
}
