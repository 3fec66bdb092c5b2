package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/internal/sim/fail2bantest"
	"banmesh/internal/sim/netconfdtest"
)

// commitTo is a commit section for a NETCONF server that knows no vendor's leaf.
func commitTo(s *netconfdtest.Server, more string) string {
	return fmt.Sprintf("{driver: netconf, conductors: [%q], user: %s, key: %s, known_hosts: %s, validation: none, timeout: 20s, window: 500ms%s}",
		s.Addr, s.User, s.KeyFile, s.KnownHosts, more)
}

// TestLogLineReachesEveryRouterAndTheConductor is the main job: a real fail2ban
// reads a real log, its action calls the agent, the others have the ban, and the
// leader has it committed to a NETCONF server that is not ours, as a client that
// is not ours reads.
func TestLogLineReachesEveryRouterAndTheConductor(t *testing.T) {
	t.Parallel()
	server := netconfdtest.Start(t)
	agents := trio(t, settings{commit: commitTo(server, "")})
	f2b := fail2bantest.Start(t, fail2bantest.Options{Bin: banmesh, Socket: agents[0].socket})

	f2b.Attack(netip.MustParseAddr("203.0.113.7"))
	f2b.Attack(netip.MustParseAddr("2001:db8::7"))
	want := []string{"2001:db8::7/128", "203.0.113.7/32"}
	for _, a := range agents {
		for _, prefix := range want {
			eventually(t, 15*time.Second, prefix+" at "+a.name, func() bool { return a.banned(prefix) != nil })
		}
	}
	ban := agents[2].banned(want[1])
	if got := ban.Records[0]; got.Origin != "router1" || got.Jail != "sshd" || got.Failures < 2 {
		t.Errorf("record at router3 = %+v, want origin router1, jail sshd, at least 2 failures", got)
	}
	eventually(t, 30*time.Second, "the commit", func() bool {
		got := slices.Clone(server.NcclientRead(t, "blacklist-fail2ban", "internet").Addresses)
		slices.Sort(got)
		return slices.Equal(got, want)
	})
	for _, a := range agents {
		eventually(t, 15*time.Second, "committed at "+a.name, func() bool { return a.banned(want[1]).Committed })
	}
}

// TestFail2banLifeCycle follows one router's fail2ban through restart, unban of
// one, unban of all, and an unban from elsewhere.
func TestFail2banLifeCycle(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	a := newAgent(t, "router1", settings{dir: dir})
	f2b := fail2bantest.Start(t, fail2bantest.Options{Bin: banmesh, Socket: a.socket})
	a = newAgent(t, "router1", settings{dir: dir, fail2ban: fmt.Sprintf("{client: %q}", f2b.ClientCommand())}).start()
	b := newAgent(t, "router2", settings{join: []*agent{a}}).start()
	c := newAgent(t, "router3", settings{join: []*agent{a}}).start()
	all := []*agent{a, b, c}
	awaitMembers(t, all, 3)

	attackers := []string{"203.0.113.7", "203.0.113.8", "203.0.113.9"}
	for _, addr := range attackers {
		f2b.Attack(netip.MustParseAddr(addr))
	}
	for _, x := range all {
		for _, addr := range attackers {
			eventually(t, 15*time.Second, addr+" at "+x.name, func() bool { return x.banned(addr+"/32") != nil })
		}
	}
	before := map[string]string{}
	for _, addr := range attackers {
		before[addr] = *c.banned(addr + "/32").Until
	}

	t.Log("a restart neither loses nor extends nor lifts")
	f2b.Restart()
	eventually(t, 15*time.Second, "fail2ban to have its bans back", func() bool { return len(jailed(t, f2b)) == len(attackers) })
	for _, x := range all {
		for _, addr := range attackers {
			ban := x.banned(addr + "/32")
			if ban == nil {
				t.Fatalf("%s is not banned at %s after fail2ban's restart", addr, x.name)
			}
			was, now := stamp(t, before[addr]), stamp(t, *ban.Until)
			if d := now.Sub(was).Abs(); d > time.Second {
				t.Errorf("%s at %s ends at %v after the restart, %v before", addr, x.name, now, was)
			}
		}
	}

	t.Log("fail2ban's own unban lifts this router's own")
	client(t, f2b, "set", "sshd", "unbanip", attackers[0])
	for _, x := range all {
		eventually(t, 10*time.Second, "the lift at "+x.name, func() bool { return x.banned(attackers[0]+"/32") == nil })
	}

	t.Log("an unban at router3 lifts everywhere, in fail2ban too, and a restart does not bring it back")
	c.must("unban", attackers[1])
	for _, x := range all {
		eventually(t, 10*time.Second, "the lift at "+x.name, func() bool { return x.banned(attackers[1]+"/32") == nil })
	}
	eventually(t, 30*time.Second, "fail2ban to let it go", func() bool { return !slices.Contains(jailed(t, f2b), attackers[1]) })
	f2b.Restart()
	eventually(t, 15*time.Second, "fail2ban to have the last one back", func() bool { return slices.Contains(jailed(t, f2b), attackers[2]) })
	for _, x := range all {
		if x.banned(attackers[1]+"/32") != nil {
			t.Errorf("%s is back at %s after fail2ban's restart", attackers[1], x.name)
		}
		if x.banned(attackers[2]+"/32") == nil {
			t.Errorf("%s is gone at %s after fail2ban's restart", attackers[2], x.name)
		}
	}

	t.Log("unban --all of fail2ban lifts this router's own, and nobody else's")
	b.must("ban", "198.51.100.1", "--for", "1h")
	client(t, f2b, "unban", "--all")
	for _, x := range all {
		eventually(t, 60*time.Second, "the lift at "+x.name, func() bool { return x.banned(attackers[2]+"/32") == nil })
		eventually(t, 10*time.Second, "router2's ban at "+x.name, func() bool { return x.banned("198.51.100.1/32") != nil })
	}
}

// TestStoppedFail2banLiftsNothing: stop calls flush and unban like `unban --all`.
func TestStoppedFail2banLiftsNothing(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	a := newAgent(t, "router1", settings{dir: dir})
	f2b := fail2bantest.Start(t, fail2bantest.Options{Bin: banmesh, Socket: a.socket})
	a = newAgent(t, "router1", settings{dir: dir, fail2ban: fmt.Sprintf("{client: %q}", f2b.ClientCommand())}).start()
	f2b.Attack(netip.MustParseAddr("203.0.113.7"))
	eventually(t, 15*time.Second, "the ban", func() bool { return a.banned("203.0.113.7/32") != nil })
	f2b.Stop()
	// The look at a flushed jail comes after 5 s; nothing may have been lifted then.
	deadline := time.Now().Add(8 * time.Second)
	for time.Now().Before(deadline) {
		if a.banned("203.0.113.7/32") == nil {
			t.Fatal("the ban was lifted by a stop of fail2ban")
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func client(t *testing.T, s *fail2bantest.Server, args ...string) string {
	t.Helper()
	out, err := s.Client(args...)
	if err != nil {
		t.Fatalf("fail2ban-client %v: %v", args, err)
	}
	return out
}

// jailed are the addresses that fail2ban's jail sshd holds; none while it does
// not answer.
func jailed(t *testing.T, s *fail2bantest.Server) []string {
	t.Helper()
	out, err := s.Client("get", "sshd", "banip")
	if err != nil {
		return nil
	}
	return strings.Fields(out)
}

func stamp(t *testing.T, text string) time.Time {
	t.Helper()
	v, err := time.Parse("2006-01-02T15:04:05.000Z", text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
