package examples

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/mesh/fail2ban"
)

// TestFiltersFindTheirLines runs fail2ban's own reader over lines as the routers
// and cowrie write them, and over lines that look alike.
func TestFiltersFindTheirLines(t *testing.T) {
	for name, want := range map[string][]string{
		"t128-dropped": {"203.0.113.3", "203.0.113.4", "2001:db8:bad::7"},
		"t128-denied":  {"203.0.113.3", "2001:db8:bad::7"},
		"cowrie":       {"203.0.113.3", "203.0.113.4", "2001:db8:bad::7"},
	} {
		t.Run(name, func(t *testing.T) {
			filter := "fail2ban/filter.d/" + name + ".conf"
			if got := found(t, "testdata/"+name+".log", filter); !slices.Equal(got, want) {
				t.Errorf("finds %q, want %q", got, want)
			}
			if got := found(t, "testdata/"+name+"-not.log", filter); len(got) != 0 {
				t.Errorf("finds %q where there is nothing to find", got)
			}
		})
	}
}

// TestJailsBanStrangersAndSpareTheFabric runs the jails in a real fail2ban, of
// which only the actions are left out.
func TestJailsBanStrangersAndSpareTheFabric(t *testing.T) {
	dir := installFail2ban(t, "jail.d/t128.conf", "jail.d/cowrie.conf", "jail.d/ssh-file.conf")
	local := "[DEFAULT]\naction =\n"
	logs := map[string]string{}
	for _, jail := range []string{"t128-dropped", "t128-denied", "cowrie", "sshd"} {
		logs[jail] = filepath.Join(dir, jail+".log")
		local += fmt.Sprintf("[%s]\nenabled = true\nlogpath = %s\n", jail, logs[jail])
	}
	now := time.Now()
	traditional, day := now.Format("Jan 02 15:04:05.000"), now.UTC().Format("2006-01-02T15:04:05.000Z")
	dropped := func(ip string) string {
		return traditional + " [SESS|SA ] ERROR (SessionProc-00 ) Dropped packet with key: Packet key [src ip " + ip + ", dest ip 198.51.100.1, src port 4242, dest port 22, proto 6, interface 13.0], no path\n"
	}
	denied := func(ip string) string {
		return day + " Traffic request violates access policy.\n  Type: traffic.denied\n  Denied Reason: access\n  Permitted: False\n  Source Address: " + ip + "\n  Source Port: 4242\n"
	}
	login := func(ip string) string {
		return `{"eventid":"cowrie.login.failed","username":"root","password":"1234","sensor":"pot1","timestamp":"` + day + `","src_ip":"` + ip + `","session":"5f1c9c4b2a10"}` + "\n"
	}
	failed := func(ip string) string {
		return now.Format("Jan _2 15:04:05") + " router1 sshd[4242]: Failed password for invalid user root from " + ip + " port 4242 ssh2\n"
	}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(logs["t128-dropped"], strings.Repeat(dropped("192.0.2.3"), 40)+strings.Repeat(dropped("2001:db8:1::3"), 40)+strings.Repeat(dropped("169.254.127.126"), 40)+
		strings.Repeat(dropped("203.0.113.4"), 20)+strings.Repeat(dropped("203.0.113.3"), 30))
	write(logs["t128-denied"], strings.Repeat(denied("192.0.2.3"), 25)+strings.Repeat(denied("203.0.113.6"), 10)+strings.Repeat(denied("203.0.113.5"), 20))
	write(logs["cowrie"], login("192.0.2.3")+login("203.0.113.7"))
	write(logs["sshd"], strings.Repeat(failed("203.0.113.9"), 3)+strings.Repeat(failed("203.0.113.8"), 4))
	write(filepath.Join(dir, "jail.local"), local)
	startFail2ban(t, dir)
	for jail, want := range map[string]string{"t128-dropped": "203.0.113.3", "t128-denied": "203.0.113.5", "cowrie": "203.0.113.7", "sshd": "203.0.113.8"} {
		var got string
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) { // between two questions; the condition decides
			out, err := run(t, "fail2ban-client", "-c", dir, "get", jail, "banip")
			if got = strings.TrimSpace(out); err == nil && got != "" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s bans nobody: %s", jail, out)
			}
		}
		// fail2ban reads a log from its begin to its end, and who comes last here
		// must be banned: the others have been looked at by then.
		if got != want {
			t.Errorf("%s has banned %q, want %s", jail, got, want)
		}
	}
}

func TestJailsAreTaken(t *testing.T) {
	for _, jails := range [][]string{{"ssh-file.conf", "cowrie.conf", "t128.conf", "mesh.conf"}, {"ssh-journal.conf"}} {
		var files []string
		for _, name := range jails {
			files = append(files, "jail.d/"+name)
		}
		dir := installFail2ban(t, files...)
		if out, err := run(t, "fail2ban-client", "-c", dir, "-t"); err != nil || !strings.Contains(out, "OK: configuration test is successful") || strings.Contains(out, "ERROR") {
			t.Fatalf("%q: %v: %s", jails, err, out)
		}
		out, err := run(t, "fail2ban-client", "-c", dir, "-d")
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if n := strings.Count(out, "'addaction', 'banmesh']"); n != strings.Count(out, "['start', ") || n == 0 {
			t.Errorf("%q: %d jails share their bans, of %d that start", jails, n, strings.Count(out, "['start', "))
		}
	}
}

// found are the addresses that fail2ban finds in a log.
func found(t *testing.T, log, filter string) []string {
	t.Helper()
	out, err := run(t, "fail2ban-regex", "--usedns", "no", "-o", "ip", log, filter)
	if strings.Contains(out, "ERROR") || (err != nil && out != "") {
		t.Fatalf("fail2ban-regex %s %s: %v: %s", log, filter, err, out)
	}
	return strings.Fields(out)
}

// installFail2ban is a copy of the system's fail2ban with files of ours beside
// its own, as an operator installs them, whose jails read logs that exist.
func installFail2ban(t *testing.T, jails ...string) string {
	t.Helper()
	dir := copyFail2ban(t)
	filters, err := filepath.Glob("fail2ban/filter.d/*.conf")
	if err != nil {
		t.Fatal(err)
	}
	files := append([]string{"fail2ban/action.d/banmesh.conf", "fail2ban/jail.d/banmesh.conf"}, filters...)
	for _, jail := range jails {
		files = append(files, "fail2ban/"+jail)
	}
	log := filepath.Join(dir, "log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text := read(t, name)
		for _, path := range []string{
			"/var/log/secure", "/var/log/128technology/serviceArea.log", "/var/log/128technology/highwayManager.log",
			"/var/log/128technology/t128-denied.log", "/home/cowrie/cowrie/var/log/cowrie/cowrie.json",
		} {
			text = strings.ReplaceAll(text, path, log)
		}
		if err := os.WriteFile(filepath.Join(dir, strings.TrimPrefix(name, "fail2ban/")), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Debian's own jail reads a log that need not exist here.
	if err := os.WriteFile(filepath.Join(dir, "jail.d", "defaults-debian.conf"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// copyFail2ban copies the system's fail2ban, but for what banmesh's package has
// put there, or is just putting there.
func copyFail2ban(t *testing.T) string {
	t.Helper()
	need.Programs(t, "fail2ban-server", "fail2ban-client", "fail2ban-regex")
	dir := t.TempDir()
	const system = "/etc/fail2ban"
	err := filepath.WalkDir(system, func(path string, d fs.DirEntry, err error) error {
		to := filepath.Join(dir, strings.TrimPrefix(path, system))
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(d.Name(), "banmesh"):
			return nil
		case d.IsDir():
			return os.MkdirAll(to, 0o700)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, text, 0o600)
	})
	if err != nil {
		t.Fatalf("%v: install fail2ban with `make deps` as root", err)
	}
	return dir
}

// TestFeedingJailIsAsTheAgentWantsIt runs the feeding jail in a real fail2ban
// beside recidive, with a ban action that blocks nothing.
func TestFeedingJailIsAsTheAgentWantsIt(t *testing.T) {
	dir := installFail2ban(t, "jail.d/mesh.conf")
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	jail := strings.NewReplacer("#[recidive]", "[recidive]\nenabled = true\nlogpath = /dev/null\nbackend = polling", "#filter", "filter").Replace(read(t, filepath.Join(dir, "jail.d/mesh.conf")))
	if !strings.Contains(jail, "\nfilter   = recidive[") {
		t.Fatal("mesh.conf does not say what recidive needs")
	}
	write("jail.d/mesh.conf", jail)
	write("action.d/block.conf", "[Definition]\nactionban = true\nactionunban = true\n")
	write("jail.local", "[DEFAULT]\nbanaction = block\nbanaction_allports = block\n[sshd]\nenabled = false\n")
	startFail2ban(t, dir)

	client := fail2ban.NewClient(fail2ban.ClientConfig{Command: "fail2ban-client -c " + dir})
	want := fail2ban.Shape{Blocks: true, TellsUnbans: true, Flushes: true, BanTime: 30 * 24 * time.Hour}
	if got, err := client.Shape(t.Context(), "mesh"); err != nil || got != want {
		t.Errorf("the jail is %+v, %v; want %+v", got, err, want)
	}
	findings, err := fail2ban.Check(t.Context(), client, "mesh")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		// What banmesh's program lacks on this machine is said of the jail recidive.
		if strings.Contains(f.What, "mesh,") || strings.Contains(f.What, "counts") {
			t.Errorf("check finds %+v", f)
		}
	}
	if out, err := run(t, "fail2ban-client", "-c", dir, "set", "mesh", "banip", "198.51.100.0/24", "2001:db8::/48"); err != nil || strings.TrimSpace(out) != "2" {
		t.Errorf("banip of two prefixes: %v, %s", err, out)
	}
}

// startFail2ban runs a fail2ban of its own until the test ends, once its first
// jail answers.
func startFail2ban(t *testing.T, dir string) {
	t.Helper()
	local := fmt.Sprintf("[Definition]\nlogtarget = %s\nsyslogsocket = auto\nsocket = %s\npidfile = %s\ndbfile = None\n",
		filepath.Join(dir, "fail2ban.log"), filepath.Join(dir, "s"), filepath.Join(dir, "pid"))
	if err := os.WriteFile(filepath.Join(dir, "fail2ban.local"), []byte(local), 0o600); err != nil {
		t.Fatal(err)
	}
	server := exec.Command("fail2ban-server", "-c", dir, "-f", "-x", "start")
	if err := server.Start(); err != nil {
		t.Fatalf("%v: install fail2ban with `make deps` as root", err)
	}
	t.Cleanup(func() {
		server.Process.Signal(syscall.SIGTERM)
		server.Wait()
		if t.Failed() {
			t.Log(read(t, filepath.Join(dir, "fail2ban.log")))
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) { // between two questions; the condition decides
		out, err := run(t, "fail2ban-client", "-c", dir, "status")
		if err == nil && strings.Contains(out, "Jail list:\t") && !strings.HasSuffix(strings.TrimSpace(out), "Jail list:") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("fail2ban has no jail: %v: %s", err, out)
		}
	}
}
