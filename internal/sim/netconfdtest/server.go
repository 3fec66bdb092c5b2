//go:build linux

package netconfdtest

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/internal/sim/launch"
)

// Programs of the Debian packages, by full path, because a login's PATH may lack /usr/sbin or have another Python.
const (
	netconfd  = "/usr/sbin/netconfd"
	subsystem = "/usr/sbin/netconf-subsystem"
	sshd      = "/usr/sbin/sshd"
	keygen    = "/usr/bin/ssh-keygen"
	python    = "/usr/bin/python3"
)

// startTimeout is far above what either program takes on an idle machine.
const startTimeout = 20 * time.Second

//go:embed read.py
var readScript string

// A Server is a running netconfd with its sshd, on loopback and in a directory of its own. Its configuration starts empty.
type Server struct {
	Addr       string // host:port
	User       string
	KeyFile    string
	KnownHosts string
	Dir        string

	options Options
	port    int
	procs   []*launch.Process // sshd last
}

// Options change a server from the default.
type Options struct {
	WritableRunning bool     // no candidate: edits of running take effect at once
	IPv6            bool     // listen on ::1
	UserCA          bool     // accept only a certificate of the key, not the key itself
	Netconfd        []string // additional arguments
}

// Start starts a server with a model like the conductor's; the test's end stops it.
func Start(t testing.TB) *Server {
	t.Helper()
	return StartWith(t, Options{})
}

// StartWith is Start with options.
func StartWith(t testing.TB, o Options) *Server {
	t.Helper()
	need.Programs(t, netconfd, subsystem, sshd, keygen, python)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	// A socket's path has at most 108 bytes, and a test's own directory can be longer.
	dir, err := os.MkdirTemp("", "netconfd")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{
		User: me.Username, Dir: dir, options: o,
		KeyFile:    filepath.Join(dir, "clientkey"),
		KnownHosts: filepath.Join(dir, "known_hosts"),
	}
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			s.dumpLogs(t)
		}
		os.RemoveAll(dir)
	})
	yang := filepath.Join(need.ModuleRoot(t), "internal", "sim", "netconfdtest", "testdata", "yang")
	for _, d := range []string{"yang", "yuma/data"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(yang, "*.yang"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no modules in %s (%v)", yang, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "yang", filepath.Base(f)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"hostkey", "clientkey"} {
		s.keygen(t, key, "ed25519")
	}
	public, err := os.ReadFile(s.KeyFile + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if o.UserCA {
		public = nil
		s.keygen(t, "userca", "ed25519")
		out, err := exec.Command(keygen, "-q", "-s", filepath.Join(dir, "userca"), "-I", "test", "-n", me.Username, s.KeyFile+".pub").CombinedOutput()
		if err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "authorized_keys"), public, 0o600); err != nil {
		t.Fatal(err)
	}
	// A port that is free now may be taken by the time it is used.
	for attempt := 0; ; attempt++ {
		err := s.start()
		if err == nil {
			break
		}
		s.Stop()
		if attempt == 3 {
			s.dumpLogs(t)
			t.Fatalf("netconfd does not start: %v", err)
		}
	}
	s.TrustHostKey(t)
	return s
}

func (s *Server) keygen(t testing.TB, name, kind string) {
	t.Helper()
	path := filepath.Join(s.Dir, name)
	os.Remove(path)
	os.Remove(path + ".pub")
	if out, err := exec.Command(keygen, "-q", "-t", kind, "-N", "", "-C", "test", "-f", path).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
}

// TrustHostKey writes the server's current key to the known_hosts file.
func (s *Server) TrustHostKey(t testing.TB) {
	t.Helper()
	public, err := os.ReadFile(filepath.Join(s.Dir, "hostkey.pub"))
	if err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("[%s]:%d %s", s.host(), s.port, public)
	if err := os.WriteFile(s.KnownHosts, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ChangeHostKey gives the server a new host key of a type that ssh-keygen knows, as a reinstallation does; known_hosts keeps the
// old one. Any further lines are for sshd_config.
func (s *Server) ChangeHostKey(t testing.TB, kind string, lines ...string) {
	t.Helper()
	s.keygen(t, "hostkey", kind)
	s.restartSSH(t, lines)
}

// CertifyHostKey gives the server's host key a certificate for an address, and returns the public key of its authority.
func (s *Server) CertifyHostKey(t testing.TB, address string) string {
	t.Helper()
	s.keygen(t, "hostca", "ed25519")
	key := filepath.Join(s.Dir, "hostkey")
	out, err := exec.Command(keygen, "-q", "-s", filepath.Join(s.Dir, "hostca"), "-I", "test", "-h", "-n", address, key+".pub").CombinedOutput()
	if err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	public, err := os.ReadFile(filepath.Join(s.Dir, "hostca.pub"))
	if err != nil {
		t.Fatal(err)
	}
	s.restartSSH(t, []string{"HostCertificate " + key + "-cert.pub"})
	return strings.TrimSpace(string(public))
}

func (s *Server) restartSSH(t testing.TB, lines []string) {
	t.Helper()
	s.procs[1].Kill()
	s.procs = s.procs[:1]
	if err := s.startSSH(lines...); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) host() string {
	if s.options.IPv6 {
		return "::1"
	}
	return "127.0.0.1"
}

// start picks a port and starts both processes. netconfd tells its subsystem the port.
func (s *Server) start() error {
	l, err := net.Listen("tcp", net.JoinHostPort(s.host(), "0"))
	if err != nil {
		return err
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	s.Addr = l.Addr().String()
	l.Close()
	if err := s.startNetconfd(); err != nil {
		return err
	}
	return s.startSSH()
}

func (s *Server) startNetconfd() error {
	socket := filepath.Join(s.Dir, "ncx.sock")
	os.Remove(socket)
	target := "candidate"
	if s.options.WritableRunning {
		target = "running"
	}
	args := []string{
		fmt.Sprintf("--port=%d", s.port), "--ncxserver-sockname=" + socket,
		"--modpath=" + filepath.Join(s.Dir, "yang") + ":/usr/share/yuma/modules",
		"--module=t128", "--module=authority-config", "--module=service-config", "--module=t128-validate-type",
		"--target=" + target, "--with-startup=false", "--no-startup", "--access-control=off",
		"--superuser=" + s.User, "--log=" + filepath.Join(s.Dir, "netconfd.log"),
	}
	args = append(args, s.options.Netconfd...)
	p, err := launch.Start(filepath.Join(s.Dir, "netconfd.out"), append(os.Environ(), "YUMA_HOME="+filepath.Join(s.Dir, "yuma")), netconfd, args...)
	if err != nil {
		return err
	}
	s.procs = append(s.procs, p)
	return p.WaitFor(startTimeout, func() bool { _, err := os.Stat(socket); return err == nil })
}

func (s *Server) startSSH(lines ...string) error {
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return err
		}
	}
	path := func(name string) string { return filepath.Join(s.Dir, name) }
	config := strings.Join([]string{
		fmt.Sprintf("Port %d", s.port),
		"ListenAddress " + s.host(),
		"HostKey " + path("hostkey"),
		"PidFile none",
		"AuthorizedKeysFile " + path("authorized_keys"),
		"StrictModes no",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"PermitRootLogin prohibit-password",
		"UsePAM no",
		// With a higher SHLVL bash skips the account's start-up files, which do not belong to the test and can take seconds.
		"SetEnv SHLVL=2",
		fmt.Sprintf("Subsystem netconf \"%s --ncxserver-sockname=%d@%s\"", subsystem, s.port, path("ncx.sock")),
		"",
	}, "\n")
	if s.options.UserCA {
		config += "TrustedUserCAKeys " + path("userca.pub") + "\n"
	}
	for _, line := range lines {
		config += line + "\n"
	}
	if err := os.WriteFile(path("sshd_config"), []byte(config), 0o600); err != nil {
		return err
	}
	p, err := launch.Start(path("sshd.out"), os.Environ(), sshd, "-D", "-e", "-f", path("sshd_config"))
	if err != nil {
		return err
	}
	s.procs = append(s.procs, p)
	return p.WaitFor(startTimeout, func() bool {
		c, err := net.DialTimeout("tcp", s.Addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// Stop stops both processes. Their configuration is lost.
func (s *Server) Stop() {
	for _, p := range slices.Backward(s.procs) {
		p.Kill()
	}
	s.procs = nil
}

// Freeze stops netconfd with SIGSTOP, wherever it is; sshd goes on.
func (s *Server) Freeze(t testing.TB) { s.signal(t, syscall.SIGSTOP) }

// Thaw lets netconfd continue.
func (s *Server) Thaw(t testing.TB) { s.signal(t, syscall.SIGCONT) }

func (s *Server) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := s.procs[0].Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// A Tenant is what ncclient reads about one tenant.
type Tenant struct {
	Exists      bool     `json:"exists"`
	Description *string  `json:"description"`
	Addresses   []string `json:"addresses"` // as the server spells and orders them, of the one neighborhood
}

// NcclientRead reads a tenant's addresses from running with python3-ncclient, which shares no code with our client.
func (s *Server) NcclientRead(t testing.TB, tenant, neighborhood string) Tenant {
	t.Helper()
	return s.NcclientReadFrom(t, "running", tenant, neighborhood)
}

// NcclientReadFrom reads from the named datastore.
func (s *Server) NcclientReadFrom(t testing.TB, datastore, tenant, neighborhood string) Tenant {
	t.Helper()
	// netconfd never answers an operation that arrives together with the client's hello, and ncclient sends it at once, so an
	// attempt hangs sometimes. Start with short attempts, since half a second is enough on an idle machine.
	out, err := []byte(nil), context.DeadlineExceeded
	for limit := 4 * time.Second; limit <= 32*time.Second && errors.Is(err, context.DeadlineExceeded); limit *= 2 {
		for attempt := 0; attempt < 2 && errors.Is(err, context.DeadlineExceeded); attempt++ {
			out, err = s.ncclient(limit, datastore, tenant, neighborhood)
		}
	}
	if err != nil {
		t.Fatalf("ncclient (python3-ncclient missing? run: make deps): %v", err)
	}
	var got Tenant
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("ncclient printed %q: %v", out, err)
	}
	return got
}

func (s *Server) ncclient(limit time.Duration, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, append([]string{"-c", readScript, s.Addr, s.User, s.KeyFile}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, &stderr)
	}
	return out, nil
}

func (s *Server) dumpLogs(t testing.TB) {
	for _, name := range []string{"netconfd.log", "netconfd.out", "sshd.out"} {
		text, _ := os.ReadFile(filepath.Join(s.Dir, name))
		if len(text) > 4000 {
			text = text[len(text)-4000:]
		}
		t.Logf("%s: %s", name, text)
	}
}
