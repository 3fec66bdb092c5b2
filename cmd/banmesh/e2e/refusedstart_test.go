package e2e

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"banmesh/internal/need"
)

// An agent that does not start has one line to say what failed, on what, and what to do. Here the command in that line is run,
// and then the agent starts.
func TestTheAdviceOfARefusedStartHelps(t *testing.T) {
	need.Root(t)
	need.Programs(t, "setpriv", "ss", "findmnt")
	if err := os.Chmod(filepath.Dir(banmesh), 0o755); err != nil {
		t.Fatal(err)
	}
	const other = 65534 // a user that is not root, as the package's is
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	key := `["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]`
	for _, c := range []struct {
		name    string
		user    bool                         // the agent is not root
		prevent func(t *testing.T, a *agent) // what keeps it from starting
		words   []string
		help    func(t *testing.T, a *agent, said string) // what the advice leaves to a person; may be nil
	}{
		{"the gossip's TCP port is taken", false, taken("gossip", "tcp"), []string{"gossip on", "(TCP)", "gossip.bind"}, endProgram},
		{"the gossip's UDP port is taken", false, taken("gossip", "udp"), []string{"gossip on", "(UDP)", "gossip.bind"}, endProgram},
		{"the page's port is taken", false, taken("http", "tcp"), []string{"http.listen"}, endProgram},
		{"no interface has the address", false, func(t *testing.T, a *agent) {
			edit(t, a, regexp.MustCompile(`gossip: .*`), `gossip: {bind: "192.0.2.200:7946", insecure: true}`)
		}, []string{"192.0.2.200", "gossip.bind"}, func(t *testing.T, a *agent, _ string) {
			edit(t, a, regexp.MustCompile(`192\.0\.2\.200:7946`), ownAddr(t))
		}},
		{"the disk is full", false, func(t *testing.T, a *agent) {
			free := smallDisk(t, filepath.Join(a.dir, "data"))()
			t.Cleanup(free)
		}, []string{"no space left"}, func(t *testing.T, a *agent, said string) {
			if out := shell(t, advised(t, said)); !strings.Contains(out, filepath.Join(a.dir, "data")) {
				t.Errorf("it does not show the disk:\n%s", out)
			}
			do(os.Remove(filepath.Join(a.dir, "data", "filler")))
		}},
		{"the disk is read-only", false, func(t *testing.T, a *agent) {
			data := filepath.Join(a.dir, "data")
			smallDisk(t, data)
			do(syscall.Mount("", data, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		}, []string{"read-only"}, nil},
		{"the data directory is root's", true, func(t *testing.T, a *agent) { do(os.Mkdir(filepath.Join(a.dir, "data"), 0o755)) }, []string{"/data"}, nil},
		{"the data directory may not be entered", true, func(t *testing.T, a *agent) { do(os.Mkdir(filepath.Join(a.dir, "data"), 0o700)) }, []string{"/data"}, nil},
		{"the data directory cannot be made", true, func(t *testing.T, a *agent) {
			do(os.Chown(a.dir, 0, 0))
			do(os.Chmod(a.dir, 0o755))
			elsewhere(t, a, other)
		}, []string{"/data"}, nil},
		{"the data directory is a file", false, func(t *testing.T, a *agent) { do(os.WriteFile(filepath.Join(a.dir, "data"), nil, 0o600)) }, []string{"/data", "move it away"},
			func(t *testing.T, a *agent, _ string) { do(os.Remove(filepath.Join(a.dir, "data"))) }},
		{"the socket's directory is not there", false, func(t *testing.T, a *agent) {
			edit(t, a, regexp.MustCompile(`/s\n`), "/absent/s\n")
			a.socket = filepath.Join(a.dir, "absent/s")
		},
			[]string{"socket", "absent"}, nil},
		{"the socket is a directory", false, func(t *testing.T, a *agent) { do(os.Mkdir(a.socket, 0o755)) }, []string{"socket", "move it away"},
			func(t *testing.T, a *agent, _ string) { do(os.Remove(a.socket)) }},
		{"the keyring is root's", true, func(t *testing.T, a *agent) {
			ring := filepath.Join(a.dir, "keyring.json")
			do(os.WriteFile(ring, []byte(key), 0o600))
			edit(t, a, regexp.MustCompile(`profile: local`), "keyring: "+ring)
		}, []string{"keyring.json"}, nil},
		{"the configuration is root's", true, func(t *testing.T, a *agent) { do(os.Chown(a.config, 0, 0)) }, []string{"banmesh.yaml"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAgent(t, "router1", settings{extra: "http: {listen: \"" + freeAddr(t) + "\"}\n"})
			if c.user {
				do(os.Chown(a.dir, other, other))
				do(os.Chown(a.config, other, other))
				a.wrap = []string{"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"}
			}
			c.prevent(t, a)
			a.launch()
			eventually(t, 20*time.Second, "the agent to end", a.hasEnded)
			said := a.readLog()
			oneLine(t, result{"", said, a.cmd.ProcessState.ExitCode()}, 1, c.words...)
			if c.help != nil {
				c.help(t, a, said)
			} else {
				shell(t, advised(t, said))
			}
			a.start()
		})
	}
}

// taken takes a port of the agent in another program.
func taken(section, network string) func(t *testing.T, a *agent) {
	return func(t *testing.T, a *agent) {
		addr := regexp.MustCompile(section + `: .*?"([^"]+)"`).FindStringSubmatch(fileText(t, a.config))[1]
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		script := "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_" + map[string]string{"tcp": "STREAM", "udp": "DGRAM"}[network] +
			"); s.bind(('" + netip.MustParseAddrPort(addr).Addr().String() + "', " + port + ")); " + map[string]string{"tcp": "s.listen(); "}[network] + "print('bound', flush=True); time.sleep(60)"
		squatter := exec.Command("python3", "-c", script)
		out, err := squatter.StdoutPipe()
		if err == nil {
			err = squatter.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { squatter.Process.Kill(); squatter.Wait() })
		if _, err := out.Read(make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
	}
}

// endProgram ends the program that the advised command names.
func endProgram(t *testing.T, _ *agent, said string) {
	out := shell(t, advised(t, said))
	pid := regexp.MustCompile(`python3",pid=(\d+)`).FindStringSubmatch(out)
	if pid == nil {
		t.Fatalf("no program is named:\n%s", out)
	}
	shell(t, "kill "+pid[1]+"; while kill -0 "+pid[1]+" 2>/dev/null && ! grep -q Z /proc/"+pid[1]+"/stat; do sleep 0.05; done")
}

// edit changes the configuration.
func edit(t *testing.T, a *agent, what *regexp.Regexp, to string) {
	t.Helper()
	text := fileText(t, a.config)
	changed := what.ReplaceAllLiteralString(text, to)
	if changed == text {
		t.Fatalf("%v is not in\n%s", what, text)
	}
	if err := os.WriteFile(a.config, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
}

// elsewhere moves the agent's socket into a directory of that user's.
func elsewhere(t *testing.T, a *agent, user int) {
	t.Helper()
	dir := shortDir(t)
	if err := os.Chown(dir, user, user); err != nil {
		t.Fatal(err)
	}
	a.socket = filepath.Join(dir, "s")
	edit(t, a, regexp.MustCompile(`socket: .*`), "socket: "+a.socket)
}

// advised is the command that a message has between backquotes.
func advised(t *testing.T, said string) string {
	t.Helper()
	found := regexp.MustCompile("`([^`]+)`").FindStringSubmatch(said)
	if found == nil {
		t.Fatalf("no command is advised: %s", said)
	}
	return found[1]
}

// shell runs a line as root.
func shell(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}
