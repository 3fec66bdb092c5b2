package e2e

import (
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
}
