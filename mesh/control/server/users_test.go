package server_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/control/server"
)

// serveBounded is serve for a caller who is bounded although the test runs as root, if bounded is set.
func serveBounded(t *testing.T, agent server.Agent, bounded bool) (socket string) {
	t.Helper()
	_, socket = serverOf(t, agent, bounded)
	return socket
}

func serverOf(t *testing.T, agent server.Agent, bounded bool) (s *server.Server, socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	ln, err := server.Listen(socket, "")
	if err != nil {
		t.Fatal(err)
	}
	s, err = server.New(server.Config{Agent: agent, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if bounded {
		s.BoundAll()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s, socket
}

// TestNothingIsKeptOfUsersWhoAreGone: a host may have any number of users, who all come once.
func TestNothingIsKeptOfUsersWhoAreGone(t *testing.T) {
	s, socket := serverOf(t, &stub{status: func(context.Context) (control.Status, error) { return control.Status{Name: "router1"}, nil }}, true)
	c := ask(t, socket, "GET "+control.PathStatus+" HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := io.ReadFull(c, make([]byte, 12)); err != nil || s.Users() != 1 {
		t.Fatalf("%v; of %d users something is kept, want 1", err, s.Users())
	}
	c.Close()
	for deadline := time.Now().Add(20 * time.Second); s.Users() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("of %d users something is kept after they have gone", s.Users())
		}
	}
}

func ask(t *testing.T, socket, request string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	// The server may have closed it already; the answer shows.
	_, _ = io.WriteString(c, request)
	return c
}

// TestOneUserCannotTakeAllConnections: one of the socket's group holds streams of events open.
func TestOneUserCannotTakeAllConnections(t *testing.T) {
	agent := &stub{
		events: func(ctx context.Context, _ func(control.Event) error) error { <-ctx.Done(); return nil },
		status: func(context.Context) (control.Status, error) { return control.Status{Name: "router1"}, nil },
	}
	socket := serveBounded(t, agent, true)
	answered := func(c net.Conn) bool {
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		_, err := io.ReadFull(c, make([]byte, 12))
		return err == nil
	}
	var held []net.Conn
	for i := range server.ConnsPerUser {
		c := ask(t, socket, "GET "+control.PathEvents+" HTTP/1.1\r\nHost: x\r\n\r\n")
		if !answered(c) {
			t.Fatalf("connection %d is refused", i+1)
		}
		held = append(held, c)
	}
	if answered(ask(t, socket, "GET "+control.PathStatus+" HTTP/1.1\r\nHost: x\r\n\r\n")) {
		t.Errorf("a user may open more than %d connections", server.ConnsPerUser)
	}
	held[0].Close()
	for deadline := time.Now().Add(20 * time.Second); !answered(ask(t, socket, "GET "+control.PathStatus+" HTTP/1.1\r\nHost: x\r\n\r\n")); {
		if time.Now().After(deadline) {
			t.Fatal("a connection that was closed still counts")
		}
	}

	// Root and the agent's own user, of which the test is one, are not bounded.
	socket = serveBounded(t, agent, false)
	for i := range server.ConnsPerUser + 1 {
		if !answered(ask(t, socket, "GET "+control.PathEvents+" HTTP/1.1\r\nHost: x\r\n\r\n")) {
			t.Fatalf("connection %d of the agent's own user is refused", i+1)
		}
	}
}

// TestOneUserCannotTakeAllMemory: large calls are read a few at a time.
func TestOneUserCannotTakeAllMemory(t *testing.T) {
	var inside atomic.Int32
	begun, release := make(chan struct{}, 100), make(chan struct{})
	agent := &stub{ban: func(context.Context, control.BanCall) (control.BanReply, error) {
		if n := inside.Add(1); n > server.CallsPerUser {
			t.Errorf("%d calls of a user are worked on at once", n)
		}
		defer inside.Add(-1)
		begun <- struct{}{}
		<-release
		return control.BanReply{}, nil
	}}
	socket := serveBounded(t, agent, true)
	const body = `{"prefixes":["203.0.113.1/32"],"jail":"x","until":null}`
	var calls []net.Conn
	for range 3 * server.CallsPerUser {
		calls = append(calls, ask(t, socket, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", control.PathBan, len(body), body)))
	}
	for range server.CallsPerUser {
		<-begun
	}
	select {
	case <-begun:
		t.Errorf("more than %d calls of a user are worked on", server.CallsPerUser)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	for i, c := range calls {
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		b := make([]byte, 64)
		n, err := c.Read(b)
		if err != nil || !strings.HasPrefix(string(b[:n]), "HTTP/1.1 200") {
			t.Errorf("call %d: %q, %v", i+1, b[:n], err)
		}
	}
}
