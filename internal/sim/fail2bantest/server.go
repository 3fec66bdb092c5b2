// Package fail2bantest runs Debian's fail2ban for tests, in a private temporary directory, with the action that
// examples/fail2ban ships.
//
// Start writes a configuration, starts fail2ban and waits until its jail sshd runs; the test's end stops it. Attack writes to
// the log that the jail reads, and the action then runs Options.Bin as it would run banmesh. A Server is for one goroutine, and has no locks.
package fail2bantest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/internal/sim/launch"
)

// Time limits of the harness. fail2ban starts in half a second on an idle machine.
const (
	startTimeout  = 60 * time.Second
	stopTimeout   = 2 * time.Minute
	clientTimeout = 30 * time.Second
)

// Options configure Start. Every field but Bin may be zero.
type Options struct {
	// Bin is the program that the banmesh action runs, with options if needed. It gets what the shipped action passes:
	// fail2ban EVENT --jail=...
	Bin string
	// Socket is the agent's socket, passed to Bin as BANMESH_SOCKET.
	Socket string
	// Spool is where Bin keeps calls that reach no agent, passed to it as BANMESH_SPOOL. The default is a directory of this
	// server's own, never the system's. With SpoolOfSocket it is the spool of Socket's agent.
	Spool         string
	SpoolOfSocket bool
	// Env is added to fail2ban's environment, which Bin inherits ("KEY=value").
	Env []string
	// Bantime of the jails, in fail2ban's format; default 10m.
	Bantime string
	// Default is added to jail.conf's [DEFAULT], line by line.
	Default string
	// ExtraJail is added to jail.conf after the jail sshd, as whole sections.
	ExtraJail string
	// Action is the action.d file to install as banmesh.conf; default: the shipped one, found from the module's root.
	Action string
	// Filters are more filters of the installed package, by file name.
	Filters []string
	// Files are more configuration files, by path below the configuration directory.
	Files map[string]string
}

// RootVar names a variable with the directory of an unpacked fail2ban package (dpkg -x), to test with another version than
// the installed one. PythonVar names a variable with its interpreter, if that is not the installed one either (0.11 needs 3.9
// or older).
const (
	RootVar   = "BANMESH_FAIL2BAN"
	PythonVar = "BANMESH_PYTHON"
)

// program returns the command line of one of fail2ban's programs.
func program(name string) []string {
	root := os.Getenv(RootVar)
	if root == "" {
		return []string{name}
	}
	line := []string{"env", "PYTHONPATH=" + root + "/usr/lib/python3/dist-packages"}
	if python := os.Getenv(PythonVar); python != "" {
		line = append(line, python)
	}
	return append(line, root+"/usr/bin/"+name)
}

// FilterHas reports whether one of the package's filters contains a text: filters differ between versions.
func FilterHas(t testing.TB, name, text string) bool {
	t.Helper()
	b, err := os.ReadFile(filter(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // Start reports what is missing
		t.Fatal(err)
	}
	return strings.Contains(string(b), text)
}

func filter(name string) string { return os.Getenv(RootVar) + "/etc/fail2ban/filter.d/" + name }

// Server is a running private fail2ban with one jail, sshd, that reads LogPath and bans after two failures.
type Server struct {
	t    testing.TB
	dir  string
	env  []string
	log  *os.File
	proc *launch.Process // nil while it does not run
	pids int             // last process id of the simulated sshd
}

// Start starts a fail2ban in a directory of the test and waits until its jail sshd runs. The test's end stops it.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if os.Getenv(RootVar) == "" {
		need.Programs(t, "fail2ban-server", "fail2ban-client")
	}
	s := &Server{t: t, dir: directory(t), env: append(os.Environ(), o.Env...)}
	if o.Socket != "" {
		s.env = append(s.env, "BANMESH_SOCKET="+o.Socket)
	}
	spool := o.Spool
	switch {
	case o.SpoolOfSocket:
		spool = ""
	case spool == "":
		spool = s.path("spool")
	}
	s.env = append(s.env, "BANMESH_SPOOL="+spool)
	s.configure(o)
	log, err := os.OpenFile(s.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s.log = log
	t.Cleanup(func() {
		s.Stop()
		s.log.Close()
		if t.Failed() {
			t.Logf("fail2ban's log:\n%s", s.serverLog())
		}
	})
	s.start()
	return s
}

// directory returns a directory whose paths are short enough for a unix socket.
func directory(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if len(dir) <= 80 {
		return dir
	}
	dir, err := os.MkdirTemp("", "f2b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// configure writes the private configuration. fail2ban.conf needs the section [Definition]: without it fail2ban uses the
// system's paths.
func (s *Server) configure(o Options) {
	s.t.Helper()
	for _, dir := range []string{"etc/filter.d", "etc/action.d", "log", "run"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o700); err != nil {
			s.t.Fatal(err)
		}
	}
	action := o.Action
	if action == "" {
		action = filepath.Join(need.ModuleRoot(s.t), "examples/fail2ban/action.d/banmesh.conf")
	}
	s.copyFile(action, "etc/action.d/banmesh.conf")
	for _, name := range append([]string{"sshd.conf", "common.conf"}, o.Filters...) {
		s.copyFile(filter(name), "etc/filter.d/"+name)
	}
	bantime := o.Bantime
	if bantime == "" {
		bantime = "10m"
	}
	s.writeFile("etc/fail2ban.conf", `[Definition]
loglevel = INFO
logtarget = `+s.path("log/fail2ban.log")+`
syslogsocket = auto
socket = `+s.Socket()+`
pidfile = `+s.path("run/f.pid")+`
dbfile = `+s.path("run/f.sqlite3")+`
dbpurgeage = 1d
dbmaxmatches = 10
allowipv6 = auto
`)
	s.writeFile("etc/jail.conf", `[DEFAULT]
ignoreself = false
ignoreip =
usedns = no
backend = polling
maxretry = 2
findtime = 10m
bantime = `+bantime+`
enabled = false
banmesh = banmesh[bin="`+o.Bin+`"]
`+o.Default+`

[sshd]
enabled = true
filter = sshd
logpath = `+s.LogPath()+`
action = %(banmesh)s

`+o.ExtraJail)
	for name, content := range o.Files {
		s.Configure(name, content)
	}
}

// Configure writes a file below the configuration directory. A running server uses it only after a reload or restart.
func (s *Server) Configure(name, content string) {
	s.t.Helper()
	name = filepath.Join("etc", name)
	if err := os.MkdirAll(filepath.Dir(s.path(name)), 0o700); err != nil {
		s.t.Fatal(err)
	}
	s.writeFile(name, content)
}

// Dir is the configuration directory, as passed to fail2ban's -c.
func (s *Server) Dir() string { return s.path("etc") }

// Socket is the path of fail2ban's own socket.
func (s *Server) Socket() string { return s.path("run/f.sock") }

// LogPath is the log that the jail sshd reads.
func (s *Server) LogPath() string { return s.path("log/auth.log") }

// ClientCommand is a client for this server, in the form of `fail2ban: {client: …}`.
func (s *Server) ClientCommand() string { return strings.Join(s.client(), " ") }

func (s *Server) client() []string { return append(program("fail2ban-client"), "-c", s.Dir()) }

// Log appends a line to the log that the jail sshd reads.
func (s *Server) Log(line string) {
	s.t.Helper()
	if _, err := s.log.WriteString(line + "\n"); err != nil {
		s.t.Fatal(err)
	}
}

// Attack logs two failed logins from an address, now: enough for a ban. Each attack has its own sshd process, as in reality:
// the filter assigns all lines of one process to one connection, and to its first address.
func (s *Server) Attack(addr netip.Addr) {
	s.t.Helper()
	s.pids++
	for range 2 {
		s.Log(fmt.Sprintf("%s gw sshd[%d]: Failed password for invalid user root from %v port 4242 ssh2",
			time.Now().Format(time.Stamp), 1000+s.pids, addr))
	}
}

// Client runs fail2ban-client for this server and returns its stdout without the last newline. An error contains stderr too.
func (s *Server) Client(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	line := append(s.client(), args...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("fail2ban-client %s: %w: %s%s", strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return strings.TrimSuffix(stdout.String(), "\n"), err
}

// Restart stops fail2ban cleanly and starts it again with the same database.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.start()
}

// Stop stops fail2ban cleanly and waits for its end. It does nothing if fail2ban does not run.
func (s *Server) Stop() {
	s.t.Helper()
	if s.proc == nil {
		return
	}
	proc := s.proc
	s.proc = nil
	if err := proc.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Errorf("stop fail2ban: %v", err)
	}
	select {
	case <-proc.Ended():
	case <-time.After(stopTimeout):
		s.t.Errorf("fail2ban did not stop within %v, killing it", stopTimeout)
		proc.Kill()
	}
}

func (s *Server) start() {
	s.t.Helper()
	line := append(program("fail2ban-server"), "-c", s.Dir(), "-f", "-x", "start")
	proc, err := launch.Start(s.path("log/out"), s.env, line[0], line[1:]...)
	if err != nil {
		s.t.Fatalf("start fail2ban: %v", err)
	}
	s.proc = proc
	// fail2ban answers a ping before its jails are there.
	if err := proc.WaitFor(startTimeout, func() bool { return asks(s.Socket(), "status", "sshd") }); err != nil {
		s.t.Fatalf("%v\n%s", err, s.serverLog())
	}
}

func (s *Server) serverLog() string {
	log, _ := os.ReadFile(s.path("log/fail2ban.log"))
	out, _ := os.ReadFile(s.path("log/out"))
	return string(log) + string(out)
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Server) writeFile(name, content string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) copyFile(from, name string) {
	s.t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		s.t.Fatal(err)
	}
	s.writeFile(name, string(content))
}
