package examples

import (
	"encoding/json"
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
		"t128-denied":  {"203.0.113.3", "2001:db8:bad::7", "203.0.113.20", "2001:db8:bad::20", "203.0.113.21", "203.0.113.22"},
		"cowrie":       {"203.0.113.3", "203.0.113.4", "2001:db8:bad::7"},
	} {
		t.Run(name, func(t *testing.T) {
			// What is not to be found comes behind what is, because each start of
			// Python takes its time.
			log := filepath.Join(t.TempDir(), "log")
			text := read(t, "testdata/"+name+".log") + unrelated + read(t, "testdata/"+name+"-not.log")
			if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := found(t, log, "fail2ban/filter.d/"+name+".conf"); !slices.Equal(got, want) {
				t.Errorf("finds %q, want %q", got, want)
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
	// The operator's own list holds for the jails that have none of their own.
	write(filepath.Join(dir, "jail.local"), strings.Replace(local, "action =", "ignoreip = 192.0.2.3\naction =", 1))
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

// TestNobodyIsBannedByAnAttackersWords: what an attacker may put into a field (a
// user name, a password, a policy's name) names a victim as if it were a source.
func TestNobodyIsBannedByAnAttackersWords(t *testing.T) {
	const victim = "198.51.100.9"
	words := []string{
		victim, "x from " + victim + " port 22 ssh2", `","src_ip":"` + victim + `"`, `\","src_ip":"` + victim + `","a":"`,
		`"eventid":"cowrie.login.failed","src_ip":"` + victim + `"`, "access Source Address: " + victim, "1.0  Permitted: False  Source Address:     " + victim,
		"Dropped packet with key: Packet key [src ip " + victim + ", dest ip 198.51.100.1, src port 1, dest port 22, proto 6, interface 1.0]",
		"[SESS|SA ] ERROR (x ) Dropped packet with key: Packet key [src ip " + victim + ", dest ip 198.51.100.1, src port 1, dest port 22, proto 6, interface 1.0]",
		"2026-08-04T04:24:46.328Z Traffic request violates access policy.",
	}
	const attacker = "203.0.113.3" // each word's has another last number
	for filter, lines := range map[string]func(word string) string{
		"cowrie": func(word string) string {
			typed, _ := json.Marshal(word)
			return `{"eventid":"cowrie.login.failed","username":` + string(typed) + `,"password":` + string(typed) + `,"message":` + string(typed) +
				`,"timestamp":"2026-08-04T04:24:46.328000Z","src_ip":"203.0.113.3","session":"5f1c9c4b2a10"}` + "\n"
		},
		"t128-dropped": func(word string) string {
			return "Aug 04 04:24:46.328 [SESS|SA ] ERROR (SessionProc-00 ) Cannot resolve " + word + "\n" +
				"Aug 04 04:24:46.329 [SESS|SA ] ERROR (SessionProc-00 ) Dropped packet with key: Packet key [src ip 203.0.113.3, dest ip 198.51.100.90, src port 4242, dest port 22, proto 6, interface 13.0], " + word + "\n"
		},
		"t128-denied": func(word string) string {
			const line = "==================================================================\n"
			return line + " 2026-03-01T09:15:42.127Z Login failed.\n" + line + " Type:               admin.login\n User:               " + word + "\n Permitted:          False\n\n" +
				line + " 2026-03-01T09:15:43.127Z Traffic request violates access policy.\n" + line +
				" Type:               traffic.denied\n Denied Reason:      " + word + "\n Permitted:          False\n Source Address:     203.0.113.3\n Source Port:        10000\n\n" +
				"2026-03-01T09:15:44.127Z Login failed.\n  Type: admin.login\n  User: " + word + "\n  Permitted: False\n" +
				"2026-03-01T09:15:45.127Z Traffic request violates access policy.\n  Type: traffic.denied\n  Denied Reason: " + word + "\n  Permitted: False\n  Source Address: 203.0.113.3\n"
		},
	} {
		t.Run(filter, func(t *testing.T) {
			var text strings.Builder
			var want []string
			for i, word := range words {
				source := fmt.Sprintf("203.0.113.%d", 10+i)
				text.WriteString(strings.ReplaceAll(lines(word), attacker, source) + unrelated)
				want = append(want, source)
			}
			log := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(log, []byte(text.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			got := slices.Compact(found(t, log, "fail2ban/filter.d/"+filter+".conf"))
			if !slices.Equal(got, want) {
				t.Errorf("finds %q, want %q: one for each of %q", got, want, words)
			}
		})
	}
	filters, err := filepath.Glob("fail2ban/filter.d/*.conf")
	if err != nil || len(filters) != 3 {
		t.Errorf("%q, %v: a filter is not tried here", filters, err)
	}
}

// TestJournalJailBelievesSSHDAlone feeds the jail a journal as journald writes it:
// which program spoke is known by its file, whatever it calls itself.
func TestJournalJailBelievesSSHDAlone(t *testing.T) {
	const make = "/lib/systemd/systemd-journal-remote"
	need.Files(t, make, "/usr/lib/python3/dist-packages/systemd")
	dir := installFail2ban(t, "jail.d/ssh-journal.conf")
	var export strings.Builder
	entries := 0
	say := func(exe, ip string) {
		for range 4 { // maxretry
			entries++
			comm := filepath.Base(exe)
			fmt.Fprintf(&export, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=11111111111111111111111111111111\n_MACHINE_ID=22222222222222222222222222222222\n"+
				"_HOSTNAME=router1\n_TRANSPORT=syslog\n_COMM=%s\n_EXE=%s\n_PID=%d\nSYSLOG_IDENTIFIER=%s\nSYSLOG_PID=%[5]d\nMESSAGE=Failed password for invalid user root from %[7]s port 4242 ssh2\n\n",
				time.Now().UnixMicro()+int64(entries), entries, comm, exe, 1000+entries, comm, ip)
		}
	}
	say("/usr/bin/logger", "198.51.100.9")
	say("/home/mallory/sshd", "198.51.100.9")
	want := []string{}
	for i, exe := range []string{"/usr/sbin/sshd", "/usr/lib/openssh/sshd-session", "/usr/libexec/openssh/sshd-session", "/usr/lib/openssh/sshd-auth"} {
		ip := fmt.Sprintf("203.0.113.%d", i+1)
		say(exe, ip)
		want = append(want, ip)
	}
	text, journal := filepath.Join(dir, "export"), filepath.Join(dir, "ssh.journal")
	if err := os.WriteFile(text, []byte(export.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, make, "-o", journal, text); err != nil {
		t.Fatalf("%s: %v: %s", make, err, out)
	}
	jail := filepath.Join(dir, "jail.d/ssh-journal.conf")
	conf := strings.Replace(read(t, jail), "backend      = systemd\n", "backend = systemd[journalfiles="+journal+"]\naction =\n", 1)
	if err := os.WriteFile(jail, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	startFail2ban(t, dir)
	var got []string
	for deadline := time.Now().Add(30 * time.Second); len(got) < len(want) && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) { // between two questions; the condition decides
		if out, err := run(t, "fail2ban-client", "-c", dir, "get", "sshd", "banip"); err == nil {
			got = strings.Fields(out)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("banned %q, want %q", got, want)
	}
}

func TestShippedJailsLeaveTheOperatorsIgnoreListAlone(t *testing.T) {
	dir := installFail2ban(t, "jail.d/ssh-file.conf", "jail.d/cowrie.conf")
	// Read before ours, so that ours would win.
	if err := os.WriteFile(filepath.Join(dir, "jail.d", "00-noc.conf"), []byte("[DEFAULT]\nignoreip = 198.51.100.7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, "fail2ban-client", "-c", dir, "-d")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, jail := range []string{"sshd", "cowrie"} {
		if !strings.Contains(out, "['set', '"+jail+"', 'addignoreip', '198.51.100.7']") {
			t.Errorf("jail %s does not ignore what the operator's own file names", jail)
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
		if strings.Contains(out, "['start', 't128-") {
			t.Errorf("%q: a jail starts that spoofed packets feed: it must be the operator's decision", jails)
		}
		if n := strings.Count(out, "'addaction', 'banmesh']"); n != strings.Count(out, "['start', ") || n == 0 {
			t.Errorf("%q: %d jails share their bans, of %d that start", jails, n, strings.Count(out, "['start', "))
		}
	}
}

// unrelated are more lines than a filter looks at together.
var unrelated = strings.Repeat("something else\n", 50)

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
	jail := strings.NewReplacer("#[recidive]", "[recidive]\nenabled = true\nlogpath = /dev/null\nbackend = polling", "#ignoreregex", "ignoreregex").Replace(read(t, filepath.Join(dir, "jail.d/mesh.conf")))
	if !strings.Contains(jail, "\nignoreregex = ") {
		t.Fatal("mesh.conf does not say what recidive needs")
	}
	write("jail.d/mesh.conf", jail)
	write("action.d/block.conf", "[Definition]\nactionban = true\nactionunban = true\n")
	write("jail.local", "[DEFAULT]\nbanaction = block\nbanaction_allports = block\n[sshd]\nenabled = false\n")
	startFail2ban(t, dir)

	client := fail2ban.NewClient(fail2ban.ClientConfig{Command: "fail2ban-client -c " + dir})
	want := fail2ban.Shape{Blocks: true, NotifiesUnbans: true, Flushes: true, BanTime: 30 * 24 * time.Hour}
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
