package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// oneLine is what a user must get for an error: the exit code, one line, no
// stack.
func oneLine(t *testing.T, r result, code int, words ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit %d, want %d: %s", r.code, code, r.err)
	}
	if strings.Count(strings.TrimRight(r.err, "\n"), "\n") != 0 || !strings.HasPrefix(r.err, "banmesh: ") {
		t.Errorf("stderr %q, want one line that begins with `banmesh: `", r.err)
	}
	for _, w := range words {
		if !strings.Contains(r.err, w) {
			t.Errorf("stderr %q does not say %q", r.err, w)
		}
	}
}

func TestBadInputIsRefusedAndNothingIsLost(t *testing.T) {
	t.Parallel()
	a := newAgent(t, "router1", settings{}).start()
	a.must("ban", "203.0.113.1", "--for", "1h")
	for _, c := range []struct {
		name string
		args []string
		say  string
	}{
		{"garbage", []string{"ban", "not-an-address"}, "not-an-address"},
		{"the whole internet", []string{"ban", "0.0.0.0/0", "--force"}, "0.0.0.0/0"},
		{"the whole internet, IPv6", []string{"ban", "::/0"}, "::/0"},
		{"zone", []string{"ban", "fe80::1%eth0"}, "zone"},
		{"host name", []string{"ban", "attacker.example"}, "attacker.example"},
		{"host bits", []string{"ban", "203.0.113.7/24"}, "203.0.113.0/24"},
		{"length out of range", []string{"ban", "203.0.113.7/33"}, "/33"},
		{"negative duration", []string{"ban", "203.0.113.7", "--for", "-5m"}, "-5m"},
		{"absurd duration", []string{"ban", "203.0.113.7", "--for", "99999999999999w"}, "99999999999999w"},
		{"not a duration", []string{"ban", "203.0.113.7", "--for", "soon"}, "soon"},
		{"jail", []string{"ban", "203.0.113.7", "--jail", "a\tb"}, `a\tb`},
		{"failures", []string{"ban", "203.0.113.7", "--failures", "-1"}, "-1"},
		{"restored", []string{"ban", "203.0.113.7", "--restored", "7"}, "7"},
		{"wide", []string{"ban", "10.0.0.0/8"}, "--force"},
		{"no argument", []string{"ban"}, ""},
		{"unknown flag", []string{"ban", "203.0.113.7", "--colour"}, "colour"},
		{"unknown command", []string{"bann"}, "bann"},
		{"a megabyte of argument", []string{"ban", strings.Repeat("9", 100_000)}, "..."},
	} {
		t.Run(c.name, func(t *testing.T) { oneLine(t, a.run(c.args...), 2, c.say) })
	}
	oneLine(t, a.run("unban", "203.0.113.99"), 1, "203.0.113.99")
	a.must("ban", "198.51.100.0/24", "--for", "1h")
	a.must("ban", "198.51.100.5", "--for", "1h")
	oneLine(t, a.run("unban", "198.51.100.5"), 1, "198.51.100.0/24")
	if a.banned("203.0.113.1/32") == nil || len(a.list()) != 2 {
		t.Errorf("list = %+v, want 203.0.113.1 and 198.51.100.0/24", a.list())
	}
}

func TestWithoutAnAgentBansWaitInTheSpool(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	a := newAgent(t, "router1", settings{dir: dir})
	// Before its first start nothing says where its spool is.
	oneLine(t, a.run("ban", "203.0.113.3", "--for", "1h"), 3, "--spool")
	spool := filepath.Join(dir, "data", "spool")
	r := a.run("ban", "203.0.113.1", "--for", "1h", "--spool", spool)
	if r.code != 0 || !strings.Contains(r.err, spool) {
		t.Errorf("ban without an agent: exit %d, stderr %q; want 0 and the spool", r.code, r.err)
	}
	said := time.Now()
	oneLine(t, a.run("list"), 3, a.socket)
	oneLine(t, a.run("ban", "203.0.113.2", "--spool", "/proc/nowhere"), 3)
	a.start()
	eventually(t, 5*time.Second, "the spooled ban", func() bool { return a.banned("203.0.113.1/32") != nil })
	until := stamp(t, *a.banned("203.0.113.1/32").Until)
	if d := until.Sub(said.Add(time.Hour)).Abs(); d > 2*time.Second {
		t.Errorf("the spooled ban ends at %v, want an hour after it was said", until)
	}

	// Later it is found from the socket, whatever data_dir the agent has.
	a.terminate()
	hook := []string{"fail2ban", "ban", "--jail=sshd", "--ip=203.0.113.4", fmt.Sprintf("--time=%d", time.Now().Unix()), "--bantime=600"}
	if r := a.run("ban", "203.0.113.2", "--for", "1h"); r.code != 0 || !strings.Contains(r.err, spool) {
		t.Errorf("ban after the agent: exit %d, stderr %q; want 0 and the spool", r.code, r.err)
	}
	if r := a.run(hook...); r.code != 0 || r.err != "" {
		t.Errorf("hook after the agent: exit %d, stderr %q", r.code, r.err)
	}
	a.start()
	eventually(t, 5*time.Second, "what waited in the spool", func() bool { return a.banned("203.0.113.2/32") != nil && a.banned("203.0.113.4/32") != nil })
	a.must("unban", "203.0.113.4")
	if r := a.run(append(hook, "--restored=1")...); r.code != 0 || !strings.Contains(r.err, "stays unbanned") {
		t.Errorf("a replay of what was lifted: exit %d, stderr %q; want 0 and a word of it", r.code, r.err)
	}
}

func TestAgentRefusesWhatItCannotStartWith(t *testing.T) {
	t.Parallel()
	running := newAgent(t, "router1", settings{}).start()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(shortDir(t), name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := func(extra string) string {
		dir := shortDir(t)
		return write("banmesh.yaml", "name: router9\ndata_dir: "+dir+"\nsocket: "+dir+"/s\n"+extra, 0o600)
	}
	loopback := "gossip: {bind: \"127.0.0.1:0\"}\n"
	open := write("keyring.json", `["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]`, 0o644)
	broken := write("keyring.json", `["short"]`, 0o600)
	for _, c := range []struct {
		name   string
		config string
		words  []string
	}{
		{"absent configuration", "/nonexistent/banmesh.yaml", []string{"/nonexistent/banmesh.yaml"}},
		{"unknown key", config(loopback + "colour: red\n"), []string{"banmesh.yaml:5", "colour"}},
		{"malformed", config("gossip: [\n"), []string{"banmesh.yaml:"}},
		{"no key for a public address", config("gossip:\n  bind: 0.0.0.0:0\n"), []string{"keyring", "banmesh keygen"}},
		{"absent keyring", config("gossip: {bind: \"127.0.0.1:0\", keyring: /nonexistent/keyring.json}\n"), []string{"/nonexistent/keyring.json"}},
		{"keyring for all to read", config("gossip: {bind: \"127.0.0.1:0\", keyring: " + open + "}\n"), []string{open, "chmod"}},
		{"malformed keyring", config("gossip: {bind: \"127.0.0.1:0\", keyring: " + broken + "}\n"), []string{broken}},
		{"same socket", write("banmesh.yaml", "name: router9\ndata_dir: "+shortDir(t)+"\nsocket: "+running.socket+"\n"+loopback, 0o600), []string{running.socket}},
		{"same data directory", write("banmesh.yaml", "name: router9\ndata_dir: "+filepath.Join(running.dir, "data")+"\nsocket: "+shortDir(t)+"/s\n"+loopback, 0o600), []string{filepath.Join(running.dir, "data")}},
		{"same name", config(loopback + "join: [\"" + running.addr() + "\"]\n"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{"agent", "--config", c.config}
			if c.name == "same name" {
				args = append(args, "--name", "router1")
				c.words = []string{"router1", running.addr()}
			}
			oneLine(t, command(t, nil, args...), 1, c.words...)
		})
	}
	if running.status().Members.Alive != 1 {
		t.Error("the running agent was disturbed")
	}
}

func TestConductorTroubleIsSaidInStatus(t *testing.T) {
	t.Parallel()
	cond := startConductor(t)
	other := startConductor(t)
	section := func(key, hosts string) string {
		return "{driver: netconf, conductors: [\"" + cond.addr + "\"], key: " + key + ", known_hosts: " + hosts + ", timeout: 5s" + quick + "}"
	}
	key, hosts := filepath.Join(cond.dir, "client_key"), filepath.Join(cond.dir, "known_hosts")
	open := filepath.Join(shortDir(t), "key")
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(open, text, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, section, say string }{
		{"refused login", section(filepath.Join(other.dir, "client_key"), hosts), "login"},
		{"unknown host key", section(key, filepath.Join(other.dir, "known_hosts")), "host key"},
		{"key for all to read", section(open, hosts), "chmod"},
		{"absent key", section("/nonexistent/key", hosts), "/nonexistent/key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAgent(t, "router1", settings{commit: c.section}).start()
			a.must("ban", "203.0.113.1", "--for", "1h")
			eventually(t, 20*time.Second, "status to say "+c.say, func() bool {
				s := a.status()
				return s.Commit.LastError != nil && strings.Contains(*s.Commit.LastError, c.say) && len(s.Warnings) > 0
			})
			if got := cond.running(t); len(got) != 0 {
				t.Errorf("running holds %v", got)
			}
		})
	}
}

// TestFullDiskRefusesAndLosesNothing: the file system of the store runs full.
func TestFullDiskRefusesAndLosesNothing(t *testing.T) {
	dir := shortDir(t)
	data := filepath.Join(dir, "data")
	fill := smallDisk(t, data)
	a := newAgent(t, "router1", settings{dir: dir}).start()
	a.must("ban", "203.0.113.1", "--for", "1h")
	eventually(t, 10*time.Second, "a warning that there is little room", func() bool {
		return slices.ContainsFunc(a.status().Warnings, func(w string) bool { return strings.Contains(w, "the disk of "+data+" has ") })
	})

	free := fill()
	var acknowledged int
	var refused result
	for i := 1; i < 5000; i++ {
		args := []string{"ban", "--for", "1h", "--spool", filepath.Join(data, "spool")}
		for j := range 100 {
			args = append(args, fmt.Sprintf("198.18.%d.%d", i%250, j))
		}
		if refused = a.run(args...); refused.code != 0 {
			break
		}
		acknowledged += 100
	}
	if refused.code == 0 {
		t.Fatal("a full disk refused nothing")
	}
	oneLine(t, refused, refused.code, "space")
	if strings.Contains(refused.err, "no agent") {
		t.Errorf("stderr %q: there is an agent, its disk is full", refused.err)
	}
	if got := a.status(); got.Bans.Live != acknowledged+1 {
		t.Errorf("%d live bans, want the %d acknowledged ones", got.Bans.Live, acknowledged+1)
	}
	free()
	eventually(t, 10*time.Second, "bans to be taken again", func() bool { return a.run("ban", "203.0.113.2", "--for", "1h").code == 0 })
	a.kill()
	a.start()
	if got := a.status(); got.Bans.Live != acknowledged+2 {
		t.Errorf("%d live bans after a kill, want the %d acknowledged ones", got.Bans.Live, acknowledged+2)
	}
}

// smallDisk mounts a file system of 1 MB at dir; fill leaves no room in it, free
// makes some again.
func smallDisk(t *testing.T, dir string) (fill func() (free func())) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "banmesh-test", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount a small file system (needs root): %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	filler := filepath.Join(dir, "filler")
	return func() func() {
		f, err := os.Create(filler)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, size := range []int{64 << 10, 4 << 10, 512} {
			for block := make([]byte, size); ; {
				if _, err := f.Write(block); err != nil {
					break
				}
			}
		}
		return func() { os.Remove(filler) }
	}
}

// TestDamagedStoreIsKeptAsideAndRefilledByThePeers: nothing in it is
// overwritten before somebody says so.
func TestDamagedStoreIsKeptAsideAndRefilledByThePeers(t *testing.T) {
	t.Parallel()
	a := newAgent(t, "router1", settings{}).start()
	b := newAgent(t, "router2", settings{join: []*agent{a}}).start()
	b.must("ban", "203.0.113.1", "--for", "1h")
	a.must("ban", "203.0.113.2", "--for", "1h")
	eventually(t, 10*time.Second, "both bans at router2", func() bool { return len(b.list()) == 2 })
	b.kill()
	path := filepath.Join(b.dir, "data", "store.db")
	damaged := []byte(strings.Repeat("this is no store ", 8000))
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	oneLine(t, command(t, nil, "agent", "--config", b.config), 1, path, "--reset-store")
	if now, err := os.ReadFile(path); err != nil || string(now) != string(damaged) {
		t.Fatalf("the damaged file was touched: %v", err)
	}
	b.start("--reset-store")
	eventually(t, 15*time.Second, "both bans to come back", func() bool { return len(b.list()) == 2 })
	if aside, _ := filepath.Glob(path + ".*"); len(aside) != 1 {
		t.Errorf("kept aside: %v, want one file", aside)
	}
	if own := b.banned("203.0.113.1/32"); own == nil || own.Records[0].Origin != "router2" {
		t.Errorf("its own ban came back as %+v", own)
	}
}
