package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/internal/sim/fail2bantest"
)

// TestBansFromBeforeBanmeshAreTakenIn: a fail2ban that never heard of the agent,
// with a jail that the mesh feeds.
func TestBansFromBeforeBanmeshAreTakenIn(t *testing.T) {
	f2b := fail2bantest.Start(t, fail2bantest.Options{
		Bin:     "/bin/true",
		Bantime: "2h",
		ExtraJail: "[recidive]\nenabled = true\nfilter =\nbantime = -1\naction = %(banmesh)s\n\n" +
			"[mesh]\nenabled = true\nfilter =\naction = fed\n",
		Files: map[string]string{"action.d/fed.conf": "[Definition]\nactionban = true\nactionflush = true\n" +
			"actionunban = true || banmesh fail2ban unban --jail=\"<name>\" --ip=\"<ip>\"\n"},
	})
	f2b.Attack(netip.MustParseAddr("203.0.113.7"))
	eventually(t, 20*time.Second, "fail2ban to ban", func() bool { return len(jailed(t, f2b)) == 1 })
	client(t, f2b, "set", "sshd", "banip", "2001:db8::7")
	client(t, f2b, "set", "recidive", "banip", "203.0.113.7")
	client(t, f2b, "set", "mesh", "banip", "198.51.100.1")

	a := newAgent(t, "router1", settings{fail2ban: fmt.Sprintf("{client: %q, unban: false}", f2b.ClientCommand())}).start()
	r := a.run("fail2ban", "import", "--config", a.config)
	if r.code != 0 || !strings.Contains(r.out, "3 bans of the local fail2ban: 3 taken in") || !strings.Contains(r.err, "jail mesh left out") {
		t.Fatalf("import: exit %d, %q, %q", r.code, r.out, r.err)
	}
	got := a.list()
	if len(got) != 2 || got[0].Prefix != "203.0.113.7/32" || len(got[0].Records) != 2 {
		t.Fatalf("list after the import: %+v", got)
	}
	for _, rec := range got[0].Records {
		if began := time.Since(stamp(t, rec.Start)); began > time.Minute {
			t.Errorf("record %+v began %v ago", rec, began)
		}
		if rec.Jail == "sshd" {
			if left := time.Until(stamp(t, *rec.Until)); left < 118*time.Minute || left > 2*time.Hour {
				t.Errorf("%+v lasts %v more, want what is left of 2 h", rec, left)
			}
		}
	}
	if out := a.must("fail2ban", "import", "--config", a.config); !strings.Contains(out, "0 taken in, 3 known already") {
		t.Errorf("a second import: %q", out)
	}

	t.Log("the check sees that the action's program is there and does not share")
	check := command(t, nil, "fail2ban", "check", "--client", f2b.ClientCommand(), "--json")
	var findings []struct{ Severity, What, Why, Fix string }
	if err := json.Unmarshal([]byte(check.out), &findings); err != nil {
		t.Fatalf("check: exit %d, %q %q: %v", check.code, check.out, check.err, err)
	}
	serious := 0
	for _, f := range findings {
		if f.Why == "" || f.Fix == "" {
			t.Errorf("finding %+v does not say why or what to do", f)
		}
		if f.Severity == "serious" {
			serious++
		}
	}
	if (check.code == 1) != (serious > 0) {
		t.Errorf("check: exit %d with %d serious findings", check.code, serious)
	}

	a.terminate()
	if r := a.run("fail2ban", "import", "--config", a.config); r.code != 3 {
		t.Errorf("import without an agent: exit %d, %q, want 3", r.code, r.err)
	}
}

// TestDoctorOnARealRouter: two agents, a conductor in a process of its own and a
// real fail2ban; first all is well but for what nobody denies, then trouble.
func TestDoctorOnARealRouter(t *testing.T) {
	dir := shortDir(t)
	addr := freeAddr(t)
	sim := exec.Command(banmesh, "conductor", "sim", "--listen", addr, "--dir", dir+"/conductor")
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sim.Process.Kill(); sim.Wait() })
	eventually(t, 15*time.Second, "the conductor", func() bool {
		b, err := os.ReadFile(dir + "/conductor/known_hosts")
		return err == nil && strings.Contains(string(b), "ssh-")
	})
	socket := dir + "/s"
	f2b := fail2bantest.Start(t, fail2bantest.Options{Bin: banmesh, Socket: socket})
	f2b.Log("nothing")
	commit := fmt.Sprintf("{driver: netconf, conductors: [%q], key: %s/conductor/client_key, known_hosts: %s/conductor/known_hosts, window: 100ms}", addr, dir, dir)
	a := newAgent(t, "router1", settings{dir: dir, commit: commit, fail2ban: fmt.Sprintf("{client: %q, unban: false}", f2b.ClientCommand())}).start()
	b := newAgent(t, "router2", settings{join: []*agent{a}}).start()
	awaitMembers(t, []*agent{a, b}, 2)
	a.must("ban", "203.0.113.7", "--for", "1h")
	eventually(t, 20*time.Second, "the commit", func() bool { return a.banned("203.0.113.7/32").Committed })

	examine := func() (serious, all []finding, code int) {
		t.Helper()
		all, code = examined(t, a)
		for _, f := range all {
			if f.Severity == "serious" {
				serious = append(serious, f)
			}
		}
		return serious, all, code
	}
	var serious, all []finding
	var code int
	eventually(t, 30*time.Second, "the doctor to find one serious thing only", func() bool {
		serious, all, code = examine()
		return len(serious) == 1
	})
	if code != 1 || !strings.Contains(serious[0].What, "no service denies the tenant") {
		t.Errorf("exit %d, serious %+v, want the missing deny", code, serious)
	}
	for _, want := range []string{"is well", "router2", "the login at the conductor", "holds 1 addresses", "never-ban covers", "clock agrees", "jail sshd reads", "router1 commits"} {
		if !slices.ContainsFunc(all, func(f finding) bool { return f.Severity == "ok" && strings.Contains(f.What, want) }) {
			t.Errorf("nothing says that it is well with %q; all: %+v", want, all)
		}
	}

	t.Log("a member that is gone, a conductor that is gone, a key for all")
	b.kill()
	sim.Process.Kill()
	if err := os.Chmod(dir+"/conductor/client_key", 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "the doctor to find them all", func() bool {
		serious, _, code = examine()
		found := 0
		for _, want := range []string{"router2", "0644", "conductor"} {
			if slices.ContainsFunc(serious, func(f finding) bool { return strings.Contains(f.What, want) && f.Why != "" && f.Fix != "" }) {
				found++
			}
		}
		return code == 1 && found == 3
	})

	t.Log("and for people")
	a.kill()
	r := command(t, nil, "doctor", "--config", a.config)
	if r.code != 1 || !strings.Contains(r.out, "no agent reachable") || !strings.Contains(r.out, "  fix:  ") {
		t.Errorf("without an agent: exit %d, %q", r.code, r.out)
	}
}
