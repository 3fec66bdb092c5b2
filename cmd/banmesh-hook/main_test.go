package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/mesh/control"
	"banmesh/mesh/control/server"
)

// built is where the programs are that the tests run.
var built string

func TestMain(m *testing.M) {
	var err error
	if built, err = os.MkdirTemp("", "banmesh-hook-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(built)
	os.Exit(code)
}

// build makes a static program as it is shipped, once for all tests.
func build(t *testing.T, name, pkg string) string {
	t.Helper()
	path := filepath.Join(built, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	cmd := exec.Command("go", "build", "-tags", "urfave_cli_no_docs", "-trimpath", "-ldflags", "-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return path
}

// agent takes every hook.
type agent struct {
	server.Agent
	calls chan control.HookCall
}

func (a *agent) Fail2ban(_ context.Context, c control.HookCall) (control.HookReply, error) {
	a.calls <- c
	return control.HookReply{}, nil
}

func serve(t *testing.T) (socket string, a *agent) {
	t.Helper()
	a = &agent{calls: make(chan control.HookCall, 1000)}
	socket = filepath.Join(t.TempDir(), "s")
	ln, err := server.Listen(socket, "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Config{Agent: a})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return socket, a
}

func words(event string) []string {
	return []string{"fail2ban", event, "--jail=web server", "--ip=203.0.113.7", "--time=1767225600", "--bantime=600", "--failures=5", "--restored=0"}
}

// command runs a program with the environment's additions and returns its exit code and what it wrote.
func command(t *testing.T, env []string, program string, args ...string) (code int, out string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), env...)
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(b)
}

func TestTheHookReachesTheAgent(t *testing.T) {
	need.Long(t)
	program := build(t, "banmesh-hook", ".")
	socket, a := serve(t)
	if code, out := command(t, []string{"BANMESH_SOCKET=" + socket}, program, words("ban")...); code != 0 || out != "" {
		t.Fatalf("exit %d: %s", code, out)
	}
	if c := <-a.calls; c.Jail != "web server" || len(c.Prefixes) != 1 || c.Until.Time().Unix() != 1767226200 {
		t.Errorf("got %+v", c)
	}
	if code, out := command(t, nil, program, "ban", "203.0.113.7"); code != 2 || strings.Count(out, "\n") != 1 {
		t.Errorf("a command of people: exit %d: %s", code, out)
	}
}

// With no agent and no note of one, the spool is found by banmesh, which reads configurations.
func TestTheWholeProgramFindsTheSpool(t *testing.T) {
	need.Long(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "banmesh-hook") // it looks beside itself
	if err := os.Link(build(t, "banmesh-hook", "."), program); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "none")
	fake := []byte("#!/bin/sh\necho \"$@\" >'" + filepath.Join(dir, "called") + "'\n")
	if err := os.WriteFile(filepath.Join(dir, "banmesh"), fake, 0o755); err != nil {
		t.Fatal(err)
	}
	if code, out := command(t, []string{"BANMESH_SOCKET=" + socket}, program, words("ban")...); code != 0 || out != "" {
		t.Fatalf("exit %d: %s", code, out)
	}
	called, err := os.ReadFile(filepath.Join(dir, "called"))
	if want := strings.Join(words("ban"), " ") + "\n"; err != nil || string(called) != want {
		t.Errorf("banmesh was called with %q, %v; want %q", called, err, want)
	}
	// Without it the loss is said, and fails nothing: fail2ban would only repeat the call.
	if err := os.Remove(filepath.Join(dir, "banmesh")); err != nil {
		t.Fatal(err)
	}
	if code, out := command(t, []string{"BANMESH_SOCKET=" + socket, "PATH=" + dir}, program, words("ban")...); code != 0 || !strings.Contains(out, "lost: ") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// A hook may take 1.8 times as long as a Go program that does nothing.
func TestFiguresTheHookIsLight(t *testing.T) {
	program := build(t, "banmesh-hook", ".")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "empty.go"), []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := build(t, "empty", filepath.Join(dir, "empty.go"))
	socket, _ := serve(t)
	args := append(words("ban"), "--socket="+socket)
	took := func(program string, args ...string) time.Duration {
		var out bytes.Buffer
		cmd := exec.Command(program, args...)
		cmd.Stderr = &out
		began := time.Now()
		if err := cmd.Run(); err != nil || out.Len() > 0 {
			t.Fatalf("%s: %v: %s", program, err, &out)
		}
		return time.Since(began)
	}
	const runs = 200
	var hooks, empties []time.Duration
	for range runs {
		empties = append(empties, took(empty))
		hooks = append(hooks, took(program, args...))
	}
	slices.Sort(hooks)
	slices.Sort(empties)
	hook, nothing := hooks[runs/2], empties[runs/2]
	ratio := float64(hook) / float64(nothing)
	t.Logf("a hook takes %v, an empty program %v (medians of %d): %.2f times", hook, nothing, runs, ratio)
	if ratio > 1.8 {
		t.Errorf("%.2f times, want at most 1.8", ratio)
	}
}
