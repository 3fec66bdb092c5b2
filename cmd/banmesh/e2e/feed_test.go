package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/internal/sim/fail2bantest"
)

// fed is three agents, of which the first feeds the jail mesh of its fail2ban.
type fed struct {
	t       *testing.T
	f2b     *fail2bantest.Server
	all     []*agent
	own     *agent // with the fail2ban
	peer    *agent
	blocked string // the file in which the jail's ban action notes what it does
}

func startFed(t *testing.T, limit int) *fed {
	t.Helper()
	f := &fed{t: t, blocked: filepath.Join(t.TempDir(), "blocked")}
	dir := shortDir(t)
	socket := filepath.Join(dir, "s")
	f.f2b = fail2bantest.Start(t, fail2bantest.Options{
		Bin: banmesh, Socket: socket, Spool: filepath.Join(dir, "data", "spool"),
		Default: `unbanmesh = banmesh[actionban="", actionprolong="", bin="` + banmesh + `"]`,
		ExtraJail: `[mesh]
enabled = true
filter =
bantime = 30d
action = block
         %(unbanmesh)s
`,
		Files: map[string]string{"action.d/block.conf": fmt.Sprintf("[Definition]\nactionban = echo ban '<ip>' >> %[1]s\nactionunban = echo unban '<ip>' >> %[1]s\n", f.blocked)},
	})
	f.own = newAgent(t, "router1", settings{
		dir:      dir,
		fail2ban: fmt.Sprintf("{client: %q}", f.f2b.ClientCommand()),
		extra:    fmt.Sprintf("enforce: {driver: fail2ban, limit: %d}\n", limit),
	}).start()
	f.peer = newAgent(t, "router2", settings{join: []*agent{f.own}}).start()
	f.all = []*agent{f.own, f.peer, newAgent(t, "router3", settings{join: []*agent{f.own}}).start()}
	awaitMembers(t, f.all, 3)
	return f
}

// holds is what the jail has, sorted; nil while fail2ban does not answer.
func (f *fed) holds() []string {
	out, err := f.f2b.Client("get", "mesh", "banip")
	if err != nil {
		return nil
	}
	held := strings.Fields(out)
	slices.Sort(held)
	return held
}

func (f *fed) await(why string, want ...string) {
	f.t.Helper()
	slices.Sort(want)
	var got []string
	for began := time.Now(); ; {
		if got = f.holds(); got != nil && slices.Equal(got, want) {
			return
		}
		waited := time.Since(began)
		if waited > 90*time.Second {
			f.t.Fatalf("%s: the jail holds %q, want %q; %q", why, got, want, f.own.status().Warnings)
		}
		// A question is a start of Python.
		time.Sleep(min(max(waited/10, 50*time.Millisecond), time.Second))
	}
}

// TestPeersBansAreFedToFail2ban follows a router whose fail2ban blocks what other
// routers ban.
func TestPeersBansAreFedToFail2ban(t *testing.T) {
	t.Parallel()
	f := startFed(t, 1000)
	own, peer := f.own, f.peer

	t.Log("peers' bans come into the jail, own ones do not")
	f.f2b.Attack(netip.MustParseAddr("203.0.113.7"))
	eventually(t, 15*time.Second, "the own ban at the peer", func() bool { return peer.banned("203.0.113.7/32") != nil })
	began := time.Now()
	peer.must("ban", "203.0.113.8", "2001:db8::8", "198.51.100.0/24", "--for", "1h")
	f.await("after the bans", "203.0.113.8", "2001:db8::8", "198.51.100.0/24")
	t.Logf("in the jail %v after the call of ban", time.Since(began).Round(10*time.Millisecond))
	log, err := os.ReadFile(f.blocked)
	if err != nil || !strings.Contains(string(log), "ban 198.51.100.0/24\n") {
		t.Errorf("the ban action did %q, %v", log, err)
	}

	t.Log("what a peer bans too is fed; never-ban and allows are not")
	peer.must("ban", "203.0.113.7", "--for", "1h")
	peer.must("allow", "add", "198.51.100.0/25", "--for", "1h")
	f.await("after an allow", "203.0.113.7", "203.0.113.8", "2001:db8::8", "198.51.100.128/25")

	t.Log("nothing of it comes back as this router's own")
	for _, b := range peer.list() {
		for _, r := range b.Records {
			if r.Origin == own.name && (r.Jail != "sshd" || b.Prefix != "203.0.113.7/32") {
				t.Errorf("an echo: %s, %+v", b.Prefix, r)
			}
		}
	}
	imported := own.run("fail2ban", "import", "--config", own.config)
	if imported.code != 0 || !strings.Contains(imported.out, "1 bans of the local fail2ban: 0 taken in, 1 known") {
		t.Errorf("import said %q%q", imported.out, imported.err)
	}

	t.Log("lifts take it out")
	peer.must("unban", "203.0.113.8")
	f.await("after a lift", "203.0.113.7", "2001:db8::8", "198.51.100.128/25")
	if check := command(t, nil, "fail2ban", "check", "--config", own.config); check.code != 0 || strings.Contains(check.out, "mesh,") {
		t.Errorf("fail2ban check: exit %d, %s%s", check.code, check.out, check.err)
	}

	t.Log("a human's unban holds, over restarts of fail2ban and of the agent, until a newer offence")
	client(t, f.f2b, "set", "mesh", "unbanip", "2001:db8::8")
	peer.must("ban", "203.0.113.9", "--for", "1h")
	f.await("after an unban by hand", "203.0.113.7", "203.0.113.9", "198.51.100.128/25")
	f.f2b.Restart()
	f.await("after a restart of fail2ban", "203.0.113.7", "203.0.113.9", "198.51.100.128/25")
	own.terminate()
	peer.must("unban", "203.0.113.9")
	own.start()
	f.await("after a restart of the agent", "203.0.113.7", "198.51.100.128/25")
	for _, p := range []string{"2001:db8::8/128", "203.0.113.7/32"} {
		if peer.banned(p) == nil {
			t.Errorf("the unban in the jail lifted %s in the mesh", p)
		}
	}
	peer.must("ban", "2001:db8::8", "--for", "2h")
	f.await("after a newer offence", "203.0.113.7", "2001:db8::8", "198.51.100.128/25")

	t.Log("freeze stops additions")
	peer.must("freeze")
	eventually(t, 10*time.Second, "the freeze", func() bool {
		return own.status().Commit.State == "frozen" || strings.Contains(own.must("status"), "frozen")
	})
	peer.must("ban", "203.0.113.10", "--for", "1h")
	eventually(t, 10*time.Second, "the ban", func() bool { return own.banned("203.0.113.10/32") != nil })
	peer.must("unban", "2001:db8::8")
	f.await("while frozen", "203.0.113.7", "198.51.100.128/25")
	peer.must("thaw")
	f.await("after the thaw", "203.0.113.7", "203.0.113.10", "198.51.100.128/25")

	t.Log("leave empties the jail, and what joins again feeds it again")
	own.must("leave")
	f.await("after the leave")
	if got := jailed(t, f.f2b); !slices.Contains(got, "203.0.113.7") {
		t.Errorf("the jail sshd holds %q after the leave", got)
	}
	own.start()
	f.await("after it came back", "203.0.113.7", "203.0.113.10", "198.51.100.128/25")

	t.Log("the driver is turned off: what it fed is taken out, though fail2ban comes later than the agent")
	own.terminate()
	f.f2b.Stop()
	edit(t, own, regexp.MustCompile(`enforce: .*`), "enforce: {driver: none}")
	own.start()
	eventually(t, 30*time.Second, "status to say that the jail still has its bans", func() bool {
		return strings.Contains(own.must("status"), "fail2ban's jail mesh was fed")
	})
	f.f2b.Restart()
	eventually(t, 90*time.Second, "the jail to be emptied", func() bool { return client(t, f.f2b, "get", "mesh", "banip") == "" })
	eventually(t, 60*time.Second, "the warning to end", func() bool { return !strings.Contains(own.must("status"), "jail mesh was fed") })
	if got := peer.banned("203.0.113.10/32"); got == nil {
		t.Error("emptying the jail lifted a ban of the mesh")
	}
}

func TestFedJailHasALimitAndMayBeMissing(t *testing.T) {
	t.Parallel()
	f := startFed(t, 3)
	var want []string
	for i := range 5 {
		addr := fmt.Sprintf("203.0.113.%d", i+1)
		f.peer.must("ban", addr, "--for", "1h", "--start", fmt.Sprint(time.Now().Unix()-int64(10-i)))
		if i >= 2 {
			want = append(want, addr)
		}
	}
	f.await("over the limit", want...)
	warns := func(text string) func() bool {
		return func() bool {
			return slices.ContainsFunc(f.own.status().Warnings, func(w string) bool { return strings.Contains(w, text) })
		}
	}
	eventually(t, 10*time.Second, "the warning of the limit", warns("peers have 5 bans, the newest 3 of them"))

	t.Log("fail2ban is stopped, and comes back without the jail and its database")
	f.f2b.Configure("jail.d/mesh.conf", "[mesh]\nenabled = false\n")
	f.f2b.Restart()
	f.peer.must("ban", "203.0.113.99", "--for", "1h")
	eventually(t, 90*time.Second, "the warning of the jail", warns("fail2ban has no jail mesh"))
	check := command(t, nil, "fail2ban", "check", "--config", f.own.config)
	if check.code != 1 || !strings.Contains(check.out, "fail2ban has no jail mesh") {
		t.Errorf("fail2ban check: exit %d, %s%s", check.code, check.out, check.err)
	}
	f.f2b.Configure("jail.d/mesh.conf", "[mesh]\nenabled = true\n")
	client(t, f.f2b, "reload")
	f.await("with the jail again", "203.0.113.4", "203.0.113.5", "203.0.113.99")
}
