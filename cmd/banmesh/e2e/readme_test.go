package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"banmesh/internal/need"
)

// blocks are the parts of a text that are indented by four spaces, without the indentation.
func blocks(text string) (out []string) {
	open := false
	for line := range strings.Lines(text) {
		code, indented := strings.CutPrefix(line, "    ")
		switch {
		case indented && open:
			out[len(out)-1] += code
		case indented:
			out = append(out, code)
		}
		open = indented
	}
	return out
}

// section is what stands below a heading.
func section(t testing.TB, text, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "\n"+heading+"\n")
	if !ok {
		t.Fatalf("README has no %q", heading)
	}
	if end := regexp.MustCompile(`(?m)^##+ `).FindStringIndex(rest); end != nil {
		rest = rest[:end[0]]
	}
	return rest
}

// The one-line way is what TestOneLineAServer gives: README shows these commands and no other.
func TestREADMEShowsOneCommandAServer(t *testing.T) {
	t.Parallel()
	var lines []string
	for _, b := range blocks(section(t, fileText(t, "../../../README.md"), "## On servers with fail2ban")) {
		lines = append(lines, strings.Split(strings.TrimSpace(b), "\n")...)
	}
	if got := strings.Join(lines[2:], ", "); got != "banmesh init, banmesh invite, banmesh join TOKEN" || !strings.HasPrefix(lines[0], "apt-get install ") || !strings.HasPrefix(lines[1], "dpkg -i ") {
		t.Errorf("README shows %q", lines)
	}
}

// TestREADMEByHand pastes README's lines, word for word, on three bare hosts without a log file of sshd: no rsyslog runs there.
func TestREADMEByHand(t *testing.T) {
	t.Parallel()
	need.Programs(t, "fail2ban-client")
	need.Files(t, "/usr/lib/python3/dist-packages/systemd")
	text := fileText(t, "../../../README.md")
	install := blocks(section(t, text, "## On servers with fail2ban"))[0]
	hand := blocks(section(t, text, "### The same by hand"))
	if len(hand) != 4 || !strings.HasPrefix(hand[0], "cd ") || !strings.Contains(hand[1], "keygen") || !strings.HasPrefix(hand[2], "name: ") || !strings.HasPrefix(hand[3], "banmesh config check") {
		t.Fatalf("README has other blocks: %q", hand)
	}
	dist := deb(built(t, release), "1.0.0")
	began := time.Now()
	l := newLab(t, 3)
	var hosts []*bare
	ring := ""
	for i := range 3 {
		// The addresses of README.
		l.ip("-n", l.name(i), "addr", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", "eth0")
		b := l.bare(i, dist)
		hosts = append(hosts, b)
		paste := func(block, at string) {
			t.Helper()
			for line := range strings.Lines(block) {
				// The lines of a block are given to one shell after the other, as people do.
				r := b.sh("cd " + at + "; " + line)
				if r.code != 0 && !strings.HasPrefix(line, "banmesh doctor") || r.code > 1 {
					t.Fatalf("server%d: %s: exit %d\n%s%s", i+1, line, r.code, r.out, r.err)
				}
			}
		}
		paste(install, "/root")
		at := strings.TrimSpace(strings.TrimPrefix(hand[0], "cd "))
		if i == 0 {
			paste(hand[1], at)
			ring = b.read("/etc/banmesh/keyring.json")
		} else { // "copy the file to the others; its permissions are the same everywhere"
			b.must("install -T -o banmesh -g banmesh -m 0600 /dev/stdin /etc/banmesh/keyring.json <<'END'\n" + ring + "END\n")
		}
		others := []string{}
		for j := range 3 {
			if j != i {
				others = append(others, fmt.Sprintf("%q", fmt.Sprintf("192.0.2.%d:7946", j+1)))
			}
		}
		yaml := strings.NewReplacer("server1", fmt.Sprintf("server%d", i+1), "192.0.2.1:7946", fmt.Sprintf("192.0.2.%d:7946", i+1),
			`"192.0.2.2:7946", "192.0.2.3:7946"`, strings.Join(others, ", ")).Replace(hand[2])
		b.must("cat > /etc/banmesh/banmesh.yaml <<'END'\n" + yaml + "END\n")
		paste(hand[3], at)
	}
	for i, b := range hosts {
		eventually(t, 20*time.Second, fmt.Sprintf("server%d to see three members", i+1), func() bool {
			return strings.Count(b.sh("banmesh members").out, "alive") == 3
		})
	}
	hosts[0].must("fail2ban-client set sshd banip 203.0.113.77")
	eventually(t, 20*time.Second, "its ban to be dropped on the third", func() bool {
		return strings.Contains(hosts[2].sh("nft list table inet banmesh").out, "203.0.113.77")
	})
	t.Logf("three servers by hand, as fast as a machine pastes: %v", time.Since(began))
}

// TestREADMEOnRouters pastes what README has routers do after banmesh init, over REST and over NETCONF. The simulated conductor
// knows admin alone.
func TestREADMEOnRouters(t *testing.T) {
	t.Parallel()
	need.Programs(t, "runuser", "ssh-keygen")
	steps := blocks(section(t, fileText(t, "../../../README.md"), "## On 128T / Session Smart routers"))
	for i := range steps {
		steps[i] = regexp.MustCompile(`(?m)^   `).ReplaceAllString(steps[i], "") // they stand in a list
	}
	if len(steps) != 5 || !strings.HasPrefix(steps[0], "install ") || !strings.HasPrefix(steps[2], "commit:") || !strings.HasPrefix(steps[4], "commit:") {
		t.Fatalf("README has other blocks: %q", steps)
	}
	const password = "a password of some length"
	l, dir := newLab(t, 2), shortDir(t)
	l.ip("-n", l.name(0), "addr", "add", "192.0.2.1/24", "dev", "eth0")
	l.ip("-n", l.name(1), "addr", "add", "192.0.2.10/24", "dev", "eth0")
	conductor := func(args ...string) (stop func()) {
		t.Helper()
		line := append(l.inside(1), banmesh, "conductor", "sim", "--listen", "192.0.2.10:830", "--dir", dir)
		sim := exec.Command(line[0], append(line[1:], args...)...)
		out, err := sim.StdoutPipe()
		if err == nil {
			err = sim.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		stop = sync.OnceFunc(func() {
			sim.Process.Kill()
			sim.Wait()
		})
		t.Cleanup(stop)
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatalf("the conductor did not say that it is ready: %v", err)
		}
		return stop
	}
	b := l.bare(0, deb(built(t, release), "1.0.0")) // its configuration has every key
	b.must("dpkg -i /root/banmesh_*.deb")
	firstOf(t, b)
	commits := func(section, prefix string) {
		t.Helper()
		const file = "/etc/banmesh/banmesh.yaml"
		old := regexp.MustCompile(`(?m)^commit:\n(?: .*\n)+`)
		text := b.read(file)
		if len(old.FindAllString(text, -1)) != 1 {
			t.Fatalf("init's configuration has no section commit:\n%s", text)
		}
		section = strings.Replace(section, "user: banmesh", "user: admin", 1)
		b.must("cat > " + file + " <<'END'\n" + old.ReplaceAllLiteralString(text, section) + "END\n")
		b.must("banmesh config check " + file)
		b.must("systemctl restart banmesh")
		eventually(t, time.Minute, "the agent to answer", func() bool { return b.sh("banmesh status").code == 0 })
		b.must("banmesh ban " + prefix + " --for 1h")
		eventually(t, time.Minute, prefix+" to be committed", func() bool {
			return strings.Contains(b.sh("banmesh list --json "+prefix).out, `"committed":true`)
		})
	}

	stop := conductor("--rest", "192.0.2.10:443", "--style", "5.6", "--password", password)
	b.must("echo '" + password + "' | " + steps[0])
	shown := regexp.MustCompile(`pin_sha256: "(\w{64})"`).FindStringSubmatch(b.must(steps[1]))
	if shown == nil {
		t.Fatal("trust shows no line for the configuration")
	}
	commits(strings.Replace(steps[2], "the 64 digits that trust has shown", shown[1], 1), "203.0.113.77")
	stop()

	conductor("--style", "5.2")
	lines := strings.Split(strings.TrimSpace(steps[3]), "\n")
	b.must(lines[0])
	if err := os.WriteFile(filepath.Join(dir, "authorized_keys"), []byte(b.must(lines[1])), 0o600); err != nil {
		t.Fatal(err)
	}
	b.must(lines[2] + " --yes") // no terminal is here to ask
	commits(steps[4], "203.0.113.78")
}
