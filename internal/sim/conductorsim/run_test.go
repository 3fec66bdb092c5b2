package conductorsim_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"banmesh/internal/sim/conductorsim"
	"banmesh/internal/sim/conductorsim/history"
)

// running is a conductor started as the command does it.
type running struct {
	addrs []string // in the order of the ready lines
	stop  func() error
}

// start runs a conductor until it is stopped or the test ends.
func start(t *testing.T, o conductorsim.Options, fronts int) *running {
	t.Helper()
	r, w := io.Pipe()
	o.Stdout = w
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- conductorsim.Run(ctx, o); w.Close() }()
	run := &running{}
	lines := bufio.NewScanner(r)
	for len(run.addrs) < fronts {
		if !lines.Scan() {
			t.Fatalf("ended before it was ready: %v", <-done)
		}
		addr, ok := strings.CutPrefix(lines.Text(), "conductor ready on ")
		if !ok {
			t.Fatalf("got %q, want a ready line", lines.Text())
		}
		run.addrs = append(run.addrs, addr)
	}
	run.stop = func() error {
		cancel()
		err := <-done
		done <- err
		return err
	}
	t.Cleanup(func() {
		if err := run.stop(); err != nil {
			t.Error(err)
		}
	})
	return run
}

// dialDir connects by the files of a conductor's directory alone.
func dialDir(t *testing.T, dir, addr string) (*ssh.Client, error) {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(dir, "client_key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	known, err := knownhosts.New(filepath.Join(dir, "known_hosts"))
	if err != nil {
		t.Fatal(err)
	}
	return ssh.Dial("tcp", addr, &ssh.ClientConfig{User: "admin", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: known})
}

func TestRunKeepsItsDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "conductor")
	o := conductorsim.Options{Listen: "127.0.0.1:0", REST: "127.0.0.1:0", Dir: dir}
	run := start(t, o, 2)
	conn, err := dialDir(t, dir, run.addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	_, port, err := net.SplitHostPort(run.addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	if conn, err = dialDir(t, dir, "localhost:"+port); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	for name, mode := range map[string]os.FileMode{"host_key": 0o600, "client_key": 0o600, "rest_key.pem": 0o600, "authorized_keys": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, want %v", name, info.Mode().Perm(), mode)
		}
	}
	control, err := conductorsim.DialControl(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []conductorsim.ControlRequest{{Op: "edit", Config: config(tenant("192.0.2.1/32"))}, {Op: "commit"}} {
		op.Do, op.User = "admin", "ann"
		if _, err := control.Do(op); err != nil {
			t.Fatal(err)
		}
	}
	control.Close()
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}

	again := start(t, o, 2)
	control, err = conductorsim.DialControl(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	reply, err := control.Do(conductorsim.ControlRequest{Do: "addresses", Tenant: "black", Member: "internet"})
	if err != nil || !slices.Equal(reply.Addresses, []string{"192.0.2.1/32"}) {
		t.Errorf("addresses after a restart: %q, %v", reply.Addresses, err)
	}
	if conn, err = dialDir(t, dir, again.addrs[0]); err != nil {
		t.Fatalf("the keys did not stay: %v", err)
	}
	conn.Close()
	events, err := history.ReadFile(filepath.Join(dir, "history.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var starts []history.Event
	for _, e := range events {
		if e.Kind == history.Start {
			starts = append(starts, e)
		}
	}
	const line = "/config/authority/tenant['black']/member['internet']/address='192.0.2.1/32'"
	if len(starts) != 2 || slices.Contains(starts[0].Added, line) || !slices.Contains(starts[1].Added, line) {
		t.Errorf("starts in the history: %+v, want two, the second one with %s", starts, line)
	}
}

func TestTwoConductorsDoNotShareADirectory(t *testing.T) {
	cfg := conductorsim.DefaultConfig()
	cfg.Dir = t.TempDir()
	first, err := conductorsim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if second, err := conductorsim.New(cfg); err == nil {
		second.Close()
		t.Error("a second conductor took the directory")
	}
}

func TestControlSocketWorksInADeepDirectory(t *testing.T) {
	cfg := conductorsim.DefaultConfig()
	cfg.Dir = filepath.Join(t.TempDir(), strings.Repeat("deep/", 30))
	sim, err := conductorsim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	control, err := conductorsim.DialControl(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	if err := control.Inject(conductorsim.Fault{Kind: conductorsim.FaultFreeze, Op: "commit", Times: 1}); err != nil {
		t.Fatal(err)
	}
	if got := sim.Faults(); len(got) != 1 || got[0].Op != "commit" {
		t.Errorf("faults in force: %+v", got)
	}
	if err := control.Inject(conductorsim.Fault{Kind: "earthquake"}); err == nil {
		t.Error("an unknown fault was accepted")
	}
	if err := control.Clear(); err != nil {
		t.Fatal(err)
	}
	if got := sim.Faults(); len(got) != 0 {
		t.Errorf("faults in force: %+v", got)
	}
	lock, err := control.Do(conductorsim.ControlRequest{Do: "admin", User: "ann", Op: "lock"})
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := control.Do(conductorsim.ControlRequest{Do: "sessions"})
	if err != nil || len(sessions.Sessions) != 1 || sessions.Sessions[0].Session != lock.Session {
		t.Errorf("sessions %+v, %v: want ann's", sessions.Sessions, err)
	}
	if _, err := control.Do(conductorsim.ControlRequest{Do: "kill", Session: lock.Session}); err == nil {
		if err := sim.Admin("bob").Lock(); err != nil {
			t.Errorf("the lock of a killed session is still held: %v", err)
		}
	}
}

func TestRunSaysWhatItLacks(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "running.xml"), []byte("<config"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]conductorsim.Options{
		"--dir":       {Listen: "127.0.0.1:0"},
		"--listen":    {Dir: t.TempDir()},
		"running.xml": {Dir: dir, Listen: "127.0.0.1:0"},
		"style":       {Dir: t.TempDir(), Listen: "127.0.0.1:0", Style: "6"},
		"earthquake":  {Dir: t.TempDir(), Listen: "127.0.0.1:0", Faults: []conductorsim.Fault{{Kind: "earthquake"}}},
		"listen":      {Dir: t.TempDir(), Listen: "192.0.2.1:1"},
	} {
		o.Stdout = io.Discard
		if err := conductorsim.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error about %s", err, want)
		}
	}
}

func TestCommitFailsWhereItCannotBeKept(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, func(c *conductorsim.Config) { c.Dir = dir })
	c := s.dial(t)
	c.ok(edit(tenant("192.0.2.1/32")))
	if err := os.Mkdir(filepath.Join(dir, "running.xml"), 0o700); err != nil {
		t.Fatal(err)
	}
	c.refused(commit, "operation-failed")
	if n := s.History().Commits(); n != 0 {
		t.Errorf("%d commits, want none", n)
	}
	if err := os.Remove(filepath.Join(dir, "running.xml")); err != nil {
		t.Fatal(err)
	}
	c.ok(commit)
}
