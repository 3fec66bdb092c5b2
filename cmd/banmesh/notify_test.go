package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/control"
)

// fakeSystemd listens where systemd would, and gives each message.
func fakeSystemd(t *testing.T, name string) <-chan string {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	said := make(chan string, 100)
	go func() {
		defer close(said)
		b := make([]byte, 4096)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			said <- string(b[:n])
		}
	}()
	return said
}

// hears waits for a message that holds all the words.
func hears(t *testing.T, said <-chan string, words ...string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case m := <-said:
			missing := false
			for _, w := range words {
				missing = missing || !strings.Contains(m, w)
			}
			if !missing {
				return
			}
		case <-deadline:
			t.Fatalf("systemd never heard %q", words)
		}
	}
}

func TestSystemdHearsWhenTheAgentAnswersStopsAndHangs(t *testing.T) {
	dir := t.TempDir()
	said := fakeSystemd(t, filepath.Join(dir, "notify"))
	env := map[string]string{"NOTIFY_SOCKET": filepath.Join(dir, "notify"), "WATCHDOG_USEC": "300000"}
	s := newSupervisor(func(k string) string { return env[k] }, slog.New(slog.DiscardHandler))
	if s.watchdog != 300*time.Millisecond {
		t.Errorf("watchdog %v", s.watchdog)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run(ctx, control.NewClient(filepath.Join(dir, "s")))
	}()
	// Nobody answers on the socket yet.
	select {
	case m := <-said:
		t.Errorf("before the agent answers, systemd hears %q", m)
	case <-time.After(3 * readyPause):
	}
	agent := newFakeAgent()
	stop, err := serveFake(filepath.Join(dir, "s"), agent)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	hears(t, said, "READY=1", "STATUS=3 members alive")
	hears(t, said, "WATCHDOG=1")

	// An agent that hangs is not kept alive by a thread that does not.
	if err := agent.mode("hangs"); err != nil {
		t.Fatal(err)
	}
	for quiet := false; !quiet; {
		select {
		case <-said:
		case <-time.After(2 * s.watchdog):
			quiet = true
		}
	}
	if err := agent.mode("well"); err != nil {
		t.Fatal(err)
	}
	hears(t, said, "WATCHDOG=1")
	cancel()
	hears(t, said, "STOPPING=1")
	<-done
}

func TestWithoutSystemdNobodyIsTold(t *testing.T) {
	s := newSupervisor(func(string) string { return "" }, slog.New(slog.DiscardHandler))
	s.run(t.Context(), control.NewClient("/nowhere")) // returns at once
	if s.watchdog != 0 {
		t.Errorf("watchdog %v", s.watchdog)
	}
}

// An agent that cannot tell systemd goes on.
func TestASystemdThatIsGoneStopsNothing(t *testing.T) {
	s := &supervisor{socket: filepath.Join(t.TempDir(), "none"), log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, errors.New("enough"))
	defer cancel()
	s.run(ctx, control.NewClient("/nowhere"))
}
