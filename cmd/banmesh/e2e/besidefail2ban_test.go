package e2e

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/internal/sim/fail2bantest"
)

// TestSoakBesideFail2ban: a real fail2ban drops with its own nftables action in
// the namespace in which the agent drops, bans and lets go all the while, and is
// restarted, which takes its table away and makes it anew. The agent has each ban
// in the kernel too, holds what it held, and has nothing to complain of.
func TestSoakBesideFail2ban(t *testing.T) {
	length := need.Soak(t)
	const many, share = 100_000, 0.05
	action, err := os.ReadFile("/etc/fail2ban/action.d/nftables.conf")
	if err != nil {
		t.Skip("no fail2ban with an action nftables: ", err)
	}
	l := newLab(t, 1)
	a := l.agent(0, enforced).start()
	f2b := fail2bantest.Start(t, fail2bantest.Options{
		Bin: lightHook(t), Socket: a.socket, Bantime: "20s",
		Files: map[string]string{
			"action.d/nftables.conf": string(action),
			"jail.local":             fmt.Sprintf("[sshd]\naction = %%(banmesh)s\n         nftables[type=allports, nftables=\"%s nft\"]\n", strings.Join(l.inside(0), " ")),
		},
	})
	a.must("import", scattered(t, many), "--for", "1d")
	inForce := func() (n int) {
		fmt.Sscanf(enforcing(a), "nftables on, %d in force", &n)
		return n
	}
	eventually(t, 60*time.Second, "all in force", func() bool { return inForce() >= many })

	type news struct {
		at   time.Time
		data []byte
	}
	told := make(chan news, 1<<16)
	defer l.kernelNews(0, func(at time.Time, data []byte) { told <- news{at, data} })()
	var after []time.Duration // fail2ban's own element came so long after ours
	began, cpu := time.Now(), cpuTime(t, a.cmd.Process.Pid)
	for i := 0; time.Since(began) < length; i++ {
		if i%50 == 49 {
			f2b.Restart()
		}
		banned := netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)})
		f2b.Attack(banned)
		var ours, theirs time.Time
		patience := time.After(60 * time.Second)
		for ours.IsZero() || theirs.IsZero() {
			select {
			case n := <-told:
				switch {
				case !bytes.Contains(n.data, banned.AsSlice()):
				case bytes.Contains(n.data, []byte("banmesh\x00")):
					ours = n.at
				case bytes.Contains(n.data, []byte("f2b-table\x00")):
					theirs = n.at
				}
			case <-patience:
				t.Fatalf("attack %d: %v is in the kernel by the agent at %v, by fail2ban at %v", i, banned, ours, theirs)
			}
		}
		after = append(after, theirs.Sub(ours))
	}
	used := float64(cpuTime(t, a.cmd.Process.Pid)-cpu) / float64(time.Since(began))
	slices.Sort(after)
	t.Logf("%d bans in %v beside %d in force: fail2ban's element comes %v after ours (median; %v at least); the agent needs %.1f %% of a core",
		len(after), length, many, after[len(after)/2], after[0], 100*used)
	if used > share {
		t.Errorf("the agent needs %.1f %% of a core", 100*used)
	}
	if s := enforcing(a); !strings.HasPrefix(s, "nftables on, ") || inForce() < many {
		t.Errorf("at the end: %s", s)
	}
	if log := a.readLog(); strings.Contains(log, "enforce") {
		t.Errorf("the agent complains:\n%s", log)
	}
}
