package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/fail2ban/fail2bantest"
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
	var findings []struct{ Severity, What, Why, Mend string }
	if err := json.Unmarshal([]byte(check.out), &findings); err != nil {
		t.Fatalf("check: exit %d, %q %q: %v", check.code, check.out, check.err, err)
	}
	serious := 0
	for _, f := range findings {
		if f.Why == "" || f.Mend == "" {
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
