package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// secrets are words that nobody but the owner of a file may ever see.
type secrets map[string]string

// absentFrom says of each secret that stands in a text.
func (s secrets) absentFrom(t *testing.T, where, text string) {
	t.Helper()
	for name, word := range s {
		if strings.Contains(text, word) {
			t.Errorf("%s shows %s:\n%.2000s", where, name, text)
		}
	}
}

// process are the command line and the environment of a process, as every user
// of the machine (the first) or the same user (the second) can read them.
func process(t *testing.T, pid int) string {
	t.Helper()
	return fileText(t, fmt.Sprintf("/proc/%d/cmdline", pid)) + fileText(t, fmt.Sprintf("/proc/%d/environ", pid))
}

// TestSecretsStayInTheirFiles runs agents whose every secret is known and at
// work, at the most talkative level, and looks for them wherever somebody else
// may look: logs, command lines, environments, answers, events, the command of
// alerts, errors about the secrets themselves, the files of the data directory.
func TestSecretsStayInTheirFiles(t *testing.T) {
	t.Parallel()
	const password = "MARKER-password-4711"
	cond := startConductor(t, "--rest", "127.0.0.1:0", "--password", password, "--style", "5.6")
	dir := shortDir(t)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	keygen := func() string { return strings.TrimSpace(command(t, nil, "keygen").out) }
	key, fresh := keygen(), keygen()
	hidden := secrets{"the gossip key": key, "the new gossip key": fresh, "the password": password, "the HTTP token": "MARKER-http-token-4711"}
	for i, line := range strings.Split(strings.TrimSpace(fileText(t, filepath.Join(cond.dir, "client_key"))), "\n") {
		if !strings.HasPrefix(line, "-----") {
			hidden[fmt.Sprintf("line %d of the conductor's key", i+1)] = line
		}
	}
	if len(hidden) < 6 {
		t.Fatalf("the conductor's key was not read: %d secrets", len(hidden))
	}
	told := filepath.Join(dir, "alert")
	web := freeAddr(t)
	more := func() string {
		return "log: {level: debug}\n" + fmt.Sprintf("alert: {command: \"env > %s; cat >> %s\", after: 0s}\n", told, told)
	}
	gossip := func(name string) string {
		return fmt.Sprintf("{bind: %q, profile: local, keyring: %s}", freeAddr(t), write(name, fmt.Sprintf("[%q]\n", key)))
	}
	one := newAgent(t, "router1", settings{
		gossip: gossip("keyring1.json"), commit: cond.commitTo(quick),
		extra: more() + fmt.Sprintf("leader: {priority: 10}\nhttp: {listen: %q, token_file: %s}\n", web, write("token", hidden["the HTTP token"]+"\n")),
	}).start()
	two := newAgent(t, "router2", settings{
		gossip: gossip("keyring2.json"), join: []*agent{one}, extra: more(),
		commit: fmt.Sprintf("{driver: rest, conductors: [%q], password_file: %s, ca_file: %s, timeout: 20s%s}",
			cond.rest, write("password", password+"\n"), filepath.Join(cond.dir, "rest_cert.pem"), quick),
	}).start()
	both := []*agent{one, two}
	awaitMembers(t, both, 2)
	watch := one.follow("monitor", "--json")

	one.must("ban", "203.0.113.1", "--for", "1h")
	eventually(t, 30*time.Second, "the commit over NETCONF", cond.holds(t, "203.0.113.1/32"))
	one.pipe(fresh+"\n", "keyring", "install", "-")
	one.pipe(fresh+"\n", "keyring", "use", "-")
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/feed/plain", "/"} {
		hidden.absentFrom(t, path, httpText(t, "http://"+web+path, hidden["the HTTP token"]))
		hidden.absentFrom(t, path+" without a token", httpText(t, "http://"+web+path, ""))
	}
	for _, a := range both {
		hidden.absentFrom(t, "the process of "+a.name, process(t, a.cmd.Process.Pid))
		for _, words := range []string{
			"status", "members", "list", "diff", "why 203.0.113.1", "keyring list", "allow list", "commit --dry-run", "version",
			"export", "fail2ban check --config " + a.config, "doctor --config " + a.config,
		} {
			args := strings.Fields(words)
			for _, form := range [][]string{args, append(args[:len(args):len(args)], "--json")} {
				r := a.run(form...)
				hidden.absentFrom(t, fmt.Sprintf("banmesh %v at %s", form, a.name), r.out+r.err)
			}
		}
		r := command(t, nil, "config", "check", a.config)
		hidden.absentFrom(t, "config check", r.out+r.err)
	}

	one.terminate()
	two.must("ban", "203.0.113.2", "--for", "1h")
	eventually(t, 30*time.Second, "the commit over REST", cond.holds(t, "203.0.113.1/32", "203.0.113.2/32"))
	eventually(t, 10*time.Second, "the command of alerts to have run", func() bool { _, err := os.Stat(told); return err == nil })

	// What is wrong with a secret is said without it.
	write("password", password+"-wrong\n")
	two.terminate()
	two.start()
	two.must("ban", "203.0.113.3", "--for", "1h")
	eventually(t, 30*time.Second, "status to say that the login was refused", func() bool { return two.status().Commit.LastError != nil })
	r := two.run("status", "--json")
	hidden.absentFrom(t, "status after a refused login", r.out+r.err)
	two.terminate()
	for _, bad := range []string{key, "[" + key + "]", `["` + key + `x"]`, `[["` + key + `"]]`, `{"key":"` + key + `"}`} {
		write("keyring2.json", bad)
		r := command(t, nil, "agent", "--config", two.config)
		if r.code != 1 {
			t.Errorf("a keyring of %d bytes: exit %d", len(bad), r.code)
		}
		hidden.absentFrom(t, "the error of a bad keyring", r.out+r.err)
	}
	hidden.absentFrom(t, "the events", watch())
	for _, a := range both {
		hidden.absentFrom(t, "the log of "+a.name, a.readLog())
		if !strings.Contains(a.readLog(), "level=DEBUG") {
			t.Errorf("%s logs nothing at the level debug: nothing was looked at", a.name)
		}
		entries, err := os.ReadDir(filepath.Join(a.dir, "data"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Type().IsRegular() {
				hidden.absentFrom(t, e.Name(), fileText(t, filepath.Join(a.dir, "data", e.Name())))
			}
		}
	}
	hidden.absentFrom(t, "what the command of alerts gets", fileText(t, told))
}

// TestACrashTellsNoKey: an agent that systemd's watchdog kills, or an operator with SIGQUIT, writes its stacks to the journal, and
// its memory nowhere, whatever the limits and GOTRACEBACK say.
func TestACrashTellsNoKey(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGABRT, syscall.SIGQUIT} {
		a := newAgent(t, "router1", keyed(t, ""))
		a.wrap = []string{"sh", "-c", `ulimit -c unlimited; export GOTRACEBACK=crash; exec "$0" "$@"`}
		a.start()
		limits := fileText(t, fmt.Sprintf("/proc/%d/limits", a.cmd.Process.Pid))
		if _, line, _ := strings.Cut(limits, "Max core file size"); !strings.HasPrefix(strings.TrimSpace(line), "0 ") {
			t.Errorf("an agent writes core files:\n%s", limits)
		}
		if err := a.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		eventually(t, 20*time.Second, "the agent to end", a.hasEnded)
		if status, ok := a.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.CoreDump() {
			t.Errorf("%v leaves a core", signal)
		}
		log := a.readLog()
		if !strings.Contains(log, "goroutine ") {
			t.Fatalf("%v: no stacks are in the log: the test proves nothing", signal)
		}
		secrets{
			"the key": base64.StdEncoding.EncodeToString(meshKey), "words of the key": "707070707070707", "bytes of the key": string(meshKey[:8]),
		}.absentFrom(t, "the log", log)
	}
}

// follow runs a command that goes on; what is returned ends it and gives what it
// has said.
func (a *agent) follow(args ...string) func() string {
	a.t.Helper()
	cmd := exec.Command(banmesh, append(args, "--socket", a.socket)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	stop := func() string {
		cmd.Process.Kill()
		<-ended
		return out.String()
	}
	a.t.Cleanup(func() { stop() })
	return stop
}

// httpText is what a page says, whatever its status.
func httpText(t *testing.T, url, token string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(answer.Header) + string(body)
}

// TestDoctorSaysWhatTheStartRefuses: with the same command to fix it.
func TestDoctorSaysWhatTheStartRefuses(t *testing.T) {
	t.Parallel()
	a := newAgent(t, "router1", settings{}).start()
	a.must("ban", "203.0.113.1", "--for", "1h")
	a.terminate()
	store := filepath.Join(a.dir, "data", "store.db")
	if err := os.Chmod(store, 0o666); err != nil {
		t.Fatal(err)
	}
	fix := "chmod go-w " + store
	oneLine(t, command(t, nil, "agent", "--config", a.config), 1, fix)
	if r := a.run("doctor", "--config", a.config); r.code != 1 || !strings.Contains(r.out, fix) {
		t.Errorf("doctor: exit %d, and not %q in\n%s", r.code, fix, r.out)
	}
	system(t, "sh", "-c", fix)
	a.start()
	if a.banned("203.0.113.1/32") == nil {
		t.Error("the ban is lost")
	}
	if r := a.run("doctor", "--config", a.config); strings.Contains(r.out, fix) {
		t.Errorf("doctor still says\n%s", r.out)
	}
}

// TestADoubtAboutTheStoreIsShown: what was written last is missing, and the
// peers send it again.
func TestADoubtAboutTheStoreIsShown(t *testing.T) {
	t.Parallel()
	one := newAgent(t, "router1", settings{}).start()
	two := newAgent(t, "router2", settings{join: []*agent{one}}).start()
	both := []*agent{one, two}
	awaitMembers(t, both, 2)
	for i := range 3 {
		one.must("ban", fmt.Sprintf("203.0.113.%d", i), "--for", "1h")
	}
	inSync(t, 3, both...)
	one.kill()
	file, err := os.OpenFile(filepath.Join(one.dir, "data", "store.db"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	// The two headers of a bbolt file are its first two pages; the number of the
	// transaction stands 64 bytes into each.
	var number [2]byte
	for page := range number {
		if _, err := file.ReadAt(number[page:page+1], int64(page)*4096+64); err != nil {
			t.Fatal(err)
		}
	}
	newest := int64(0)
	if int8(number[1]-number[0]) > 0 {
		newest = 4096
	}
	if _, err := file.WriteAt([]byte{0xff}, newest+64+7); err != nil {
		t.Fatal(err)
	}
	one.start()
	if w := fmt.Sprint(one.status().Warnings); !strings.Contains(w, "may be missing") {
		t.Errorf("status warns of %s", w)
	}
	inSync(t, 3, both...)
	one.terminate()
	one.start()
	if w := fmt.Sprint(one.status().Warnings); strings.Contains(w, "may be missing") {
		t.Errorf("after a restart it still warns of %s", w)
	}
	inSync(t, 3, both...)
}
