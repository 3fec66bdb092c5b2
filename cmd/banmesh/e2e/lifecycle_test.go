package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// cookbook plays the recipes of examples/README.md as they are written: a line
// `HOST# COMMAND` happens at the agent of that name.
type cookbook struct {
	t       testing.TB
	text    string
	agents  map[string]*agent
	vars    map[string]string // set by NAME=$(banmesh ...)
	edit    func(host string) // what $EDITOR does to the configuration
	upgrade string            // the binary that apt brings; "" is the one of all tests
}

// play does what is below a heading, and returns what the last command said.
func (c *cookbook) play(heading string) string {
	c.t.Helper()
	_, recipe, ok := strings.Cut(c.text, "\n### "+heading+"\n")
	if !ok {
		c.t.Fatalf("the cookbook has no recipe %q", heading)
	}
	recipe, _, _ = strings.Cut(recipe, "\n#")
	last, lines := "", regexp.MustCompile(`(?m)^    (router\d+)# (.*)$`).FindAllStringSubmatch(recipe, -1)
	if len(lines) == 0 {
		c.t.Fatalf("the recipe %q has no command", heading)
	}
	for _, m := range lines {
		last = c.do(m[1], m[2])
	}
	return last
}

var assignment = regexp.MustCompile(`^([A-Z]+)=\$\(banmesh (.*)\)$`)

func (c *cookbook) do(host, line string) string {
	c.t.Helper()
	a := c.agents[host]
	if a == nil {
		c.t.Fatalf("there is no %s for: %s", host, line)
	}
	if m := assignment.FindStringSubmatch(line); m != nil {
		r := command(c.t, nil, strings.Fields(m[2])...)
		if r.code != 0 {
			c.t.Fatalf("%s: %s", line, r.err)
		}
		c.vars[m[1]] = strings.TrimSpace(r.out)
		return ""
	}
	words := strings.Fields(os.Expand(strings.ReplaceAll(line, `"`, ""), func(name string) string {
		if v, ok := c.vars[name]; ok {
			return v
		}
		return "$" + name
	}))
	switch {
	case words[0] == "banmesh" && words[1] == "conductor":
		r := command(c.t, nil, words[1:]...)
		if r.code != 0 {
			c.t.Fatalf("%s: %s", line, r.err)
		}
		return r.out
	case words[0] == "banmesh":
		return a.must(words[1:]...)
	case words[0] == "echo" && len(words) > 4 && words[2] == "|" && words[3] == "banmesh":
		return a.pipe(words[1]+"\n", words[4:]...)
	case words[0] == "$EDITOR":
		c.edit(host)
	case line == "reboot", line == "systemctl restart banmesh":
		a.terminate()
		a.start()
	case line == "systemctl enable --now banmesh":
		a.start()
	case line == "systemctl disable banmesh":
		eventually(c.t, 5*time.Second, host+"'s agent to have ended", a.hasEnded)
	case words[0] == "apt":
		if c.upgrade == "" {
			break
		}
		a.wrap = []string{"sh", "-c", `shift; exec "$0" "$@"`, c.upgrade}
		if a.cmd != nil && !a.hasEnded() {
			a.terminate()
			a.start()
		}
	case strings.HasPrefix(line, "ssh root@router1 cat /etc/banmesh/keyring.json | install "):
		copyFile(c.t, filepath.Join(c.agents["router1"].dir, "keyring.json"), filepath.Join(a.dir, "keyring.json"))
	default:
		c.t.Fatalf("the cookbook says something that no test knows: %s", line)
	}
	return ""
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	if err := os.WriteFile(to, []byte(fileText(t, from)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// inSync waits until these agents have the same bans, this many, and nobody misses one.
func inSync(t testing.TB, bans int, agents ...*agent) {
	t.Helper()
	for _, a := range agents {
		var s status
		eventually(t, 45*time.Second, fmt.Sprintf("%s to have %d bans, in sync with %d others", a.name, bans, len(agents)-1), func() bool {
			s = a.status()
			return s.Bans.Live == bans && s.InSync && s.Members.Alive == len(agents)
		})
	}
}

// hold waits until each has this many bans. That each also lists all members may
// take longer than the bans do, where several join at once.
func hold(t testing.TB, bans int, agents ...*agent) {
	t.Helper()
	for _, a := range agents {
		eventually(t, 20*time.Second, fmt.Sprintf("%s to have %d bans", a.name, bans), func() bool { return a.status().Bans.Live == bans })
	}
}

func stateOf(a *agent, name string) string {
	for _, m := range a.members() {
		if m.Name == name {
			return m.State
		}
	}
	return ""
}

// TestRecipesOfTheCookbook is the life of one mesh: each recipe begins with what
// the one before has left.
func TestRecipesOfTheCookbook(t *testing.T) {
	t.Parallel()
	cond, next := startConductor(t), startConductor(t)
	book := &cookbook{t: t, text: fileText(t, "../../../examples/README.md"), agents: map[string]*agent{}, vars: map[string]string{}}
	key := strings.TrimSpace(command(t, nil, "keygen").out)
	add := func(name string, joins ...*agent) *agent {
		dir := shortDir(t)
		a := newAgent(t, name, settings{
			dir: dir, join: joins, commit: cond.commitTo(quick),
			gossip: fmt.Sprintf("{bind: %q, profile: local, keyring: %s}", freeAddr(t), filepath.Join(dir, "keyring.json")),
		})
		book.agents[name] = a
		return a
	}
	withKey := func(a *agent) *agent {
		if err := os.WriteFile(filepath.Join(a.dir, "keyring.json"), []byte(fmt.Sprintf("[%q]", key)), 0o600); err != nil {
			t.Fatal(err)
		}
		return a.start()
	}
	one := withKey(add("router1"))
	two, three := withKey(add("router2", one)), withKey(add("router3", one))
	trio := []*agent{one, two, three}
	two.must("ban", "203.0.113.2", "--for", "1h")
	three.must("ban", "203.0.113.3", "--for", "1h")
	inSync(t, 2, trio...)

	t.Run("reboot", func(t *testing.T) {
		two.terminate()
		one.must("ban", "203.0.113.4", "--for", "1h")
		two.start()
		inSync(t, 3, trio...)
		book.play("Reboot a router")
		inSync(t, 3, trio...)
	})

	t.Run("upgrade", func(t *testing.T) {
		newer := filepath.Join(t.TempDir(), "banmesh")
		if err := compile(newer, "banmesh/cmd/banmesh", "2.0.0"); err != nil {
			t.Fatal(err)
		}
		// While versions are mixed, bans go both ways.
		one.terminate()
		one.wrap = []string{"sh", "-c", `shift; exec "$0" "$@"`, newer}
		one.start()
		one.must("ban", "203.0.113.5", "--for", "1h")
		three.must("ban", "203.0.113.6", "--for", "1h")
		inSync(t, 5, trio...)
		book.upgrade = newer
		said := book.play("Upgrade, one router after the other")
		book.upgrade = ""
		if n := strings.Count(said, "2.0.0"); n != 3 {
			t.Errorf("%d of 3 members are shown with the new version:\n%s", n, said)
		}
		inSync(t, 5, trio...)
		for _, a := range trio {
			a.terminate()
			a.wrap = nil
			a.start()
		}
		inSync(t, 5, trio...)
	})

	t.Run("the tenth router", func(t *testing.T) {
		nine := slices.Clone(trio)
		for i := 4; i <= 9; i++ {
			nine = append(nine, withKey(add(fmt.Sprintf("router%d", i), one)))
		}
		hold(t, 5, nine...)
		add("router10")
		book.edit = func(host string) {
			a := book.agents[host]
			text := strings.Replace(fileText(t, a.config), "join: []", fmt.Sprintf("join: [%q]", one.addr()), 1)
			if err := os.WriteFile(a.config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		ten := book.agents["router10"]
		book.play("Add the tenth router")
		eventually(t, 20*time.Second, "router10 to know all and have their bans", func() bool {
			s := ten.status()
			return s.Members.Alive == 10 && s.Bans.Live == 5 && s.InSync
		})
		ten.must("ban", "203.0.113.10", "--for", "1h")
		one.must("ban", "203.0.113.11", "--for", "1h")
		hold(t, 7, append(nine, ten)...)
		one.must("unban", "203.0.113.11")
		hold(t, 6, append(nine, ten)...)
		for _, a := range append(nine[3:], ten) {
			a.must("leave")
		}
		inSync(t, 6, trio...)
	})

	t.Run("a dead router", func(t *testing.T) {
		two.kill()
		if err := os.RemoveAll(filepath.Join(two.dir, "data")); err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(two.dir, "keyring.json"))
		for _, a := range []*agent{one, three} {
			eventually(t, 20*time.Second, a.name+" to miss router2", func() bool { return stateOf(a, "router2") == "failed" })
		}
		book.edit = func(string) {}
		book.play("Replace a dead router")
		inSync(t, 6, trio...)
		if got := two.status().Bans.Own; got != 1 {
			t.Errorf("the new router2 has %d own bans, want the one of the old", got)
		}
		two.must("unban", "203.0.113.2", "--mine")
		inSync(t, 5, trio...)
	})

	t.Run("the key", func(t *testing.T) {
		shown := regexp.MustCompile(`(?m)^(SHA256:\S+) +(\d of \d)`)
		before := shown.FindStringSubmatch(one.must("keyring", "list"))
		if before == nil {
			t.Fatalf("the keyring is shown as\n%s", one.must("keyring", "list"))
		}
		book.vars["OLD"] = before[1]
		said := book.play("Change the gossip's key")
		after := shown.FindAllStringSubmatch(said, -1)
		if len(after) != 1 || after[0][1] == before[1] || after[0][2] != "3 of 3" {
			t.Errorf("after the change the keyring is\n%s", said)
		}
		for _, a := range trio {
			if got := fileText(t, filepath.Join(a.dir, "keyring.json")); strings.Contains(got, key) || !strings.Contains(got, book.vars["NEW"]) {
				t.Errorf("the keyring of %s is not the new key alone", a.name)
			}
		}
		three.must("ban", "203.0.113.7", "--for", "1h")
		inSync(t, 6, trio...)
		for _, a := range trio {
			a.terminate()
			a.start()
		}
		inSync(t, 6, trio...)
		// The new key alone: who has the old one only is not let in.
		stranger := withKey(add("router11", one))
		if n := stranger.status().Members.Alive; n != 1 {
			t.Errorf("who has only the old key sees %d members", n)
		}
		stranger.terminate()
	})

	t.Run("another conductor", func(t *testing.T) {
		all := make([]string, 0, 6)
		for _, l := range one.list() {
			all = append(all, l.Prefix)
		}
		eventually(t, 20*time.Second, "the old conductor to have all", cond.holds(t, all...))
		book.text = strings.ReplaceAll(book.text, "192.0.2.20:830 --known-hosts /etc/banmesh/known_hosts", next.addr+" --yes --known-hosts "+filepath.Join(cond.dir, "known_hosts"))
		book.edit = func(host string) {
			a := book.agents[host]
			text := strings.Replace(fileText(t, a.config), cond.addr, next.addr, 1)
			text = strings.Replace(text, filepath.Join(cond.dir, "client_key"), filepath.Join(next.dir, "client_key"), 1)
			if err := os.WriteFile(a.config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, a := range []*agent{two, three} {
			book.edit(a.name)
			a.terminate()
			a.start()
		}
		began := time.Now()
		book.play("Change the conductor")
		three.must("ban", "203.0.113.8", "--for", "1h")
		eventually(t, 40*time.Second, "the new conductor to have all", next.holds(t, append(all, "203.0.113.8/32")...))
		t.Logf("the new conductor had all after %v", time.Since(began).Round(time.Second/10))
	})

	t.Run("leave", func(t *testing.T) {
		book.play("Take a router out for good")
		if got := stateOf(one, "router3"); got != "left" {
			t.Errorf("router3 is %s, want left", got)
		}
		inSync(t, 3, one, two) // of router1 and router10
	})
}

// TestBlocklistIsBannedForADay runs the script of the blocklist's unit.
func TestBlocklistIsBannedForADay(t *testing.T) {
	t.Parallel()
	a := newAgent(t, "router1", settings{extra: "never_ban: [\"198.51.100.0/24\"]\n"}).start()
	script, err := filepath.Abs("../../../examples/blocklist/banmesh-blocklist")
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "drop.txt")
	fetch := func(text, most string) (string, error) {
		if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(script, "file://"+list, most, "1d")
		cmd.Env = append(os.Environ(), "BANMESH_SOCKET="+a.socket, "PATH="+filepath.Dir(banmesh)+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := fetch("; a published list\n203.0.113.0/25 ; SBL1\n203.0.113.200 # one\n10.0.0.0/8 ; too wide\n198.51.100.7\n2001:db8:bad::/48\n", "5"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, l := range a.list() {
		if want := l.Prefix != "198.51.100.7/32"; l.Effective != want || l.Records[0].Jail != "blocklist" {
			t.Errorf("%+v: effective should be %v", l, want)
		}
		if left := time.Until(stamp(t, *l.Until)); left < 23*time.Hour || left > 24*time.Hour {
			t.Errorf("%s is banned for %v, want a day", l.Prefix, left)
		}
	}
	if n := len(a.list()); n != 4 {
		t.Errorf("%d bans, want the 4 that are not too wide", n)
	}
	for name, text := range map[string]string{"a list beyond the cap": strings.Repeat("192.0.2.1\n", 6), "an empty list": "# nothing\n", "a page instead of a list": "<html>\n",
		"an error instead of a list": "Access denied for you\nBad gateway\n", "an unknown list": "ip,score\n192.0.2.1,0\n"} {
		if out, err := fetch(text, "5"); err == nil || !strings.Contains(out, "banmesh: ") {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
	// A list behind a redirect to a file of this machine, and one whose URL holds a secret.
	if err := os.WriteFile(list, []byte("192.0.2.99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "file://"+list, http.StatusFound)
			return
		}
		io.WriteString(w, "192.0.2.98\n")
	}))
	defer site.Close()
	from := func(url string) (string, error) {
		cmd := exec.Command(script, url)
		cmd.Env = append(os.Environ(), "BANMESH_SOCKET="+a.socket, "PATH="+filepath.Dir(banmesh)+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := from(site.URL + "/away"); err == nil {
		t.Errorf("a redirect to a file is followed: %s", out)
	}
	if out, err := from(strings.Replace(site.URL, "http://", "http://user:SECRET@", 1) + "/list?key=SECRET"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out := a.must("why", "192.0.2.98"); strings.Contains(out, "SECRET") || !strings.Contains(out, site.URL+"/list") {
		t.Errorf("the reason of a list whose URL holds a secret:\n%s", out)
	}
	a.must("unban", "192.0.2.98")
	os.Remove(list)
	cmd := exec.Command(script, "file://"+list)
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("a list that is not there: %s", out)
	}
	if n := len(a.list()); n != 4 {
		t.Errorf("%d bans after lists that were refused, want 4", n)
	}
}
