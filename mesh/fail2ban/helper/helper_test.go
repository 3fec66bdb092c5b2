package helper_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/mesh/fail2ban/helper"
)

func TestMain(m *testing.M) {
	// One of the tests calls as another user, which takes a process of its own.
	if socket := os.Getenv("ASK_AS_SOMEBODY"); socket != "" {
		_, err := helper.Ask(context.Background(), socket, []string{"status"})
		if err != nil {
			io.WriteString(os.Stderr, err.Error())
			os.Exit(7)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serve runs a helper whose fail2ban-client is a script that writes its words, one a line, into the file "ran".
func serve(t *testing.T, server helper.Server, script string) (socket, ran string) {
	t.Helper()
	dir := t.TempDir()
	client := filepath.Join(dir, "client")
	ran = filepath.Join(dir, "ran")
	if err := os.WriteFile(client, []byte("#!/bin/sh\nprintf '%s|' \"$@\" >>"+ran+"\necho >>"+ran+"\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(socket, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	server.Client = []string{client}
	server.Logger = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return socket, ran
}

func ask(t *testing.T, socket string, words ...string) helper.Reply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := helper.Ask(ctx, socket, words)
	if err != nil {
		t.Fatalf("%q: %v", words, err)
	}
	return r
}

func TestOnlyWhatTheAgentAsksIsDone(t *testing.T) {
	socket, ran := serve(t, helper.Server{Users: []uint32{uint32(os.Getuid())}, MeshJail: "mesh"}, "echo answer")
	for _, words := range []string{
		"status", "status sshd", "status sshd short", "get sshd banip", "get sshd banip --with-time", "get sshd ignoreip", "get sshd actions",
		"get sshd failregex", "get sshd bantime", "get sshd actionproperties banmesh", "get sshd action banmesh actionban", "get sshd action banmesh actionflush",
		"set sshd unbanip 203.0.113.7", "set sshd unbanip 203.0.113.7 2001:db8::/48", "set sshd addignoreip 198.51.100.0/24", "set sshd delignoreip 198.51.100.0/24",
		"set mesh banip 203.0.113.7", "reload --unban mesh",
	} {
		if r := ask(t, socket, strings.Fields(words)...); r.Out != "answer\n" || r.Error != "" {
			t.Errorf("%s: %+v", words, r)
		}
	}
	if r := ask(t, socket, "set", "Wordpress (soft)", "unbanip", "203.0.113.7"); r.Error != "" {
		t.Errorf("a jail's name with blanks: %+v", r)
	}
	if err := os.Remove(ran); err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{
		{}, {""}, {"stop"}, {"restart"}, {"reload"}, {"reload", "sshd"}, {"reload", "--unban", "sshd"}, {"reload", "--restart", "mesh"}, {"unban", "--all"}, {"ping"}, {"-t"}, {"-d"}, {"-c", "/tmp", "status"},
		{"status", "-x"}, {"status", "--all"}, {"status", "sshd", "long"}, {"status", "sshd", "short", "x"},
		{"get", "sshd", "action", "banmesh", "env"}, {"get", "sshd", "action", "-x", "actionban"}, {"get", "sshd", "logpath"}, {"get", "dbfile"},
		{"set", "sshd", "addaction", "pwn"}, {"set", "sshd", "action", "pwn", "actionban", "id"}, {"set", "sshd", "addlogpath", "/etc/shadow"}, {"set", "logtarget", "/etc/cron.d/x"},
		{"set", "sshd", "banip", "203.0.113.7"}, {"set", "sshd", "unbanip"}, {"set", "sshd", "unbanip", "--all"}, {"set", "sshd", "unbanip", "203.0.113.7/0"}, {"set", "sshd", "unbanip", "203.0.113.7/24"},
		{"set", "sshd", "unbanip", "host.example"}, {"set", "sshd", "addignoreip", "0.0.0.0/1"}, {"set", "sshd", "addignoreip", "::/8"}, {"set", "sshd", "unbanip", "203.0.113.7\n"}, {"set", "sshd", "unbanip", "fe80::1%eth0"},
		{"set", "sshd", "unbanip", "203.0.113.07"}, {"set", "-c", "unbanip", "203.0.113.7"}, {"add", "x", "polling"}, {"set", "ss\x1bhd", "unbanip", "203.0.113.7"},
		append([]string{"set", "sshd", "unbanip"}, strings.Fields(strings.Repeat("203.0.113.7 ", 101))...),
	} {
		if r := ask(t, socket, words...); r.Code != helper.CodeRefused {
			t.Errorf("%q: %+v, want a refusal", words, r)
		}
	}
	if b, err := os.ReadFile(ran); err == nil {
		t.Errorf("what was refused ran: %s", b)
	}
}

// fail2ban takes `set logtarget X` for an order to itself: its log, written by root, would go into a file of that name.
func TestASetOfWhatIsNoJailIsNotRun(t *testing.T) {
	socket, ran := serve(t, helper.Server{Users: []uint32{uint32(os.Getuid())}},
		`if [ "$1" = status ]; then echo "Sorry but the jail '$2' does not exist" >&2; exit 255; fi`)
	r := ask(t, socket, "set", "logtarget", "unbanip", "203.0.113.7")
	if !strings.Contains(r.Error, "Sorry but the jail 'logtarget'") {
		t.Errorf("got %+v", r)
	}
	if b, _ := os.ReadFile(ran); strings.Contains(string(b), "unbanip") {
		t.Errorf("it ran %s", b)
	}
}

func TestOnlyTheAgentsUserIsServed(t *testing.T) {
	need.Root(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The test's program lies where only root may go.
	program := filepath.Join(t.TempDir(), "asker")
	b, err := os.ReadFile(self)
	if err == nil {
		err = errors.Join(os.WriteFile(program, b, 0o755), os.Chmod(filepath.Dir(program), 0o755), os.Chmod(filepath.Dir(filepath.Dir(program)), 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	socket, ran := serve(t, helper.Server{Users: []uint32{45678}}, "echo answer")
	os.Chmod(filepath.Dir(filepath.Dir(socket)), 0o755)
	as := func(uid, gid uint32) error {
		cmd := exec.Command(program)
		cmd.Env = []string{"ASK_AS_SOMEBODY=" + socket}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = errors.New(string(out))
		}
		return err
	}
	if err := as(45678, 45678); err != nil {
		t.Errorf("the agent's user: %v", err)
	}
	if err := as(0, 0); err != nil {
		t.Errorf("root: %v", err)
	}
	os.Remove(ran)
	// One of the agent's group is not the agent.
	if err := as(45679, 45678); err == nil || !strings.Contains(err.Error(), "only the agent's user") {
		t.Errorf("somebody of the group: %v, want no answer", err)
	}
	if b, err := os.ReadFile(ran); err == nil {
		t.Errorf("for somebody else it ran %s", b)
	}
}

func TestItEndsWhenNobodyCalls(t *testing.T) {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	s := helper.Server{Client: []string{"true"}, Idle: 10 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
	if err := s.Serve(t.Context(), ln); err != nil {
		t.Error(err)
	}
}

func TestGarbageIsAnsweredByNothing(t *testing.T) {
	socket, ran := serve(t, helper.Server{Users: []uint32{uint32(os.Getuid())}}, "echo answer")
	for _, said := range []string{"", "{}\n", "[1]\n", `["status"`, strings.Repeat("[", 100_000), `["` + strings.Repeat("a", 100_000) + `"]`} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		io.WriteString(conn, said)
		conn.(*net.UnixConn).CloseWrite()
		if b, _ := io.ReadAll(conn); len(b) > 0 {
			t.Errorf("%.20q: answered %q", said, b)
		}
		conn.Close()
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("garbage ran something")
	}
}
