package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestAnUnbanNamesTheRoutersThatCannotBeTold: one router's agent may not use
// fail2ban's socket. An unban at any router says so.
func TestAnUnbanNamesTheRoutersThatCannotBeTold(t *testing.T) {
	t.Parallel()
	client := filepath.Join(shortDir(t), "client")
	denied := "#!/bin/sh\necho '2026-01-01 00:00:00,000 fail2ban [1]: ERROR   Permission denied to socket: /f, (you must be root)' >&2\nexit 255\n"
	if err := os.WriteFile(client, []byte(denied), 0o700); err != nil {
		t.Fatal(err)
	}
	one := newAgent(t, "router1", settings{fail2ban: fmt.Sprintf("{client: %q, unban: true}", client)}).start()
	two := newAgent(t, "router2", settings{join: []*agent{one}}).start()
	all := []*agent{one, two}
	awaitMembers(t, all, 2)
	one.must("fail2ban", "start", "--jail=sshd")
	one.must("fail2ban", "ban", "--jail=sshd", "--ip=203.0.113.7", fmt.Sprintf("--time=%d", time.Now().Unix()), "--bantime=600")
	for i, whose := range []string{"this router's fail2ban", "the fail2ban of router1"} {
		eventually(t, 20*time.Second, all[i].name+" to say it", func() bool {
			return slices.ContainsFunc(all[i].status().Warnings, func(w string) bool { return strings.HasPrefix(w, whose+" cannot be told") })
		})
	}
	eventually(t, 10*time.Second, "the ban at router2", func() bool { return two.banned("203.0.113.7/32") != nil })
	r := two.run("unban", "203.0.113.7")
	if r.code != 0 || !strings.Contains(r.err, "the fail2ban of router1 cannot be told") || !strings.Contains(r.err, "permission") {
		t.Errorf("unban: exit %d, %q; want it to name router1", r.code, r.err)
	}

	// The doctor says it on both, with what helps, and no more once that was done.
	type advice struct{ what, fix string }
	advices := []advice{
		{"the agent cannot tell this router's fail2ban", "systemctl enable --now banmesh-fail2ban.socket"},
		{"the fail2ban of router1 cannot be told", "on router1: banmesh doctor"},
	}
	says := func(a *agent, want advice) bool {
		found, _ := examined(t, a)
		return slices.ContainsFunc(found, func(f finding) bool {
			return f.Severity != "ok" && strings.HasPrefix(f.What, want.what) && f.Fix == want.fix
		})
	}
	for i, a := range all {
		eventually(t, 10*time.Second, "the doctor of "+a.name+" to say so", func() bool { return says(a, advices[i]) })
	}
	// With root's helper fail2ban answers.
	helped := "#!/bin/sh\n[ \"$1\" != status ] || printf 'Status\\n`- Jail list:\\tsshd\\n'\n"
	if err := os.WriteFile(client+".new", []byte(helped), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(client+".new", client); err != nil {
		t.Fatal(err)
	}
	for i, a := range all {
		eventually(t, 20*time.Second, "the doctor of "+a.name+" to find it gone", func() bool { return !says(a, advices[i]) })
	}
}

// finding is one of the doctor's.
type finding struct{ Severity, What, Why, Fix string }

// examined is what the doctor finds at an agent.
func examined(t testing.TB, a *agent) (all []finding, code int) {
	t.Helper()
	r := command(t, []string{"SSH_CONNECTION="}, "doctor", "--config", a.config, "--json")
	if err := json.Unmarshal([]byte(r.out), &all); err != nil {
		t.Fatalf("doctor of %s: exit %d, %q, %q: %v", a.name, r.code, r.out, r.err, err)
	}
	return all, r.code
}
