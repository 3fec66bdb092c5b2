package e2e

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/mesh/control"
	"banmesh/mesh/invite"
)

// firstOf makes a bare host the first of a mesh.
func firstOf(t testing.TB, b *bare) {
	t.Helper()
	if out := b.must("banmesh init"); !strings.Contains(out, "next: banmesh invite") {
		t.Errorf("init says\n%s", out)
	}
}

// oneLineAServer brings hosts together, one command each, and measures.
func oneLineAServer(t *testing.T, hosts int) (slowest, dropped time.Duration) {
	l := newLab(t, hosts+1)
	first := l.bare(0)
	before := first.files()
	firstOf(t, first)
	last := first
	for i := 1; i < hosts; i++ {
		last = l.bare(i)
		if i == hosts-1 {
			before = last.files()
		}
		// Nobody told it a name: all hosts of the test have one host name.
		token := strings.TrimSpace(first.must(fmt.Sprintf("banmesh invite server%d", i+1)))
		began := time.Now()
		out := last.must("banmesh join " + token)
		slowest = max(slowest, time.Since(began))
		if !regexp.MustCompile(fmt.Sprintf(`in sync with %d other members? after`, i)).MatchString(out) || !strings.Contains(out, "protected now: ") {
			t.Errorf("server%d says\n%s", i+1, out)
		}
	}
	if got := strings.Count(last.must("banmesh members"), "alive"); got != hosts {
		t.Errorf("the last one sees %d members, want %d", got, hosts)
	}

	knocker := l.name(hosts)
	l.ip("-n", knocker, "addr", "add", "10.77.0.100/24", "dev", "eth0")
	sink := l.sink(l.name(hosts - 1))
	l.stream(knocker, "10.77.0.100", l.addr(hosts-1))
	sink.passes(t, "10.77.0.100")
	// Straight to the socket: what the shell and the command take to start is not measured.
	agent := control.NewClient(fmt.Sprintf("/proc/%d/root/run/banmesh/banmesh.sock", first.hold.Process.Pid))
	began := time.Now()
	if _, err := agent.Ban(t.Context(), control.BanCall{Prefixes: control.Prefixes{netip.MustParsePrefix("10.77.0.100/32")}, Until: control.Until(began.Add(time.Hour).UnixMilli())}); err != nil {
		t.Fatal(err)
	}
	dropped = sink.stops(t, "10.77.0.100").Sub(began)

	// And it is all taken back.
	out := last.must("banmesh leave --uninstall")
	if diff := changed(before, last.files()); len(diff) > 0 {
		t.Errorf("after the removal other files are there than before:\n%s\nit said\n%s", strings.Join(diff, ""), out)
	}
	if r := last.sh("nft list table inet banmesh"); r.code == 0 {
		t.Errorf("the kernel's table stays:\n%s", r.out)
	}
	if r := last.sh("banmesh leave --uninstall"); r.code != 1 || !strings.Contains(r.err, "nothing was put in place") {
		t.Errorf("a second time: %+v", r)
	}
	return slowest, dropped
}

func TestOneLineAServer(t *testing.T) {
	t.Parallel()
	slowest, dropped := oneLineAServer(t, 2)
	t.Logf("the join took %v; a ban at the first was dropped at the second after %v", slowest, dropped)
}

// TestFiguresOneLineAServer is the bar: ten bare servers, one command each, no edit.
func TestFiguresOneLineAServer(t *testing.T) {
	slowest, dropped := oneLineAServer(t, 10)
	t.Logf("the slowest of nine joins took %v, a ban at the first was dropped in the tenth's kernel after %v", slowest, dropped)
	if slowest > 10*time.Second {
		t.Errorf("a join took %v, want 10 s at most", slowest)
	}
	if dropped > 50*time.Millisecond {
		t.Errorf("a ban at the first was dropped at the tenth after %v, want 50 ms at most", dropped)
	}
}

// With a fail2ban that runs already: what it has banned is shared, what it bans is dropped elsewhere, and it is as it was
// after the removal.
func TestJoinHooksFail2ban(t *testing.T) {
	t.Parallel()
	need.Programs(t, "fail2ban-client")
	l := newLab(t, 2)
	first, second := l.bare(0), l.bare(1, "fail2ban")
	second.must("touch /var/log/auth.log && fail2ban-client start")
	second.must("fail2ban-client set sshd banip 203.0.113.50")
	before := second.files()
	firstOf(t, first)
	token := strings.TrimSpace(first.must("banmesh invite server2 --for 1m"))
	out := second.must("banmesh join " + token)
	for _, want := range []string{"wrote /etc/fail2ban/jail.d/banmesh.conf", "restarted fail2ban", "what fail2ban bans here is dropped on all members"} {
		if !strings.Contains(out, want) {
			t.Errorf("join does not say %q:\n%s", want, out)
		}
	}
	if !strings.Contains(out, "/etc/fail2ban/action.d/banmesh.conf") {
		t.Errorf("join does not write the action:\n%s", out)
	}
	awaitBan := func(b *bare, ip string) {
		t.Helper()
		eventually(t, 20*time.Second, ip+" at "+l.name(b.host), func() bool { return strings.Contains(b.sh("banmesh list").out, ip) })
	}
	awaitBan(first, "203.0.113.50")
	second.must("fail2ban-client set sshd banip 203.0.113.51")
	awaitBan(first, "203.0.113.51")
	eventually(t, 10*time.Second, "it to be dropped at the first", func() bool {
		return strings.Contains(first.sh("nft list table inet banmesh").out, "203.0.113.51")
	})

	// Once more: nothing is left to do.
	pid := second.read("/run/banmesh.pid")
	if out := second.must("banmesh join " + token); strings.Contains(out, "wrote") || strings.Contains(out, "started") || second.read("/run/banmesh.pid") != pid {
		t.Errorf("a second time it says\n%s", out)
	}
	// And never over what is there.
	other := strings.TrimSpace(first.must("banmesh invite"))
	if r := second.sh("banmesh join " + other); r.code != 1 || !strings.Contains(r.err, "was put in place already, as server2") {
		t.Errorf("another token: %+v", r)
	}
	if r := second.sh("banmesh init"); r.code != 1 || !strings.Contains(r.err, "was put in place already") {
		t.Errorf("init after join: %+v", r)
	}

	// Whether an agent runs or was stopped before, which leaves what it drops in the kernel.
	second.must("systemctl stop banmesh")
	second.must("nft list table inet banmesh")
	// What fail2ban has banned meanwhile waits for the agent, and goes on the operator's word alone.
	second.must("fail2ban-client set sshd banip 203.0.113.52")
	eventually(t, 10*time.Second, "the ban to wait", func() bool { return second.sh("ls /var/lib/banmesh/spool /run/banmesh/*.calls | grep json").code == 0 })
	present := second.files()
	if r := second.sh("banmesh leave --uninstall"); r.code != 2 || !strings.Contains(r.err, "call waits for the agent") || len(changed(present, second.files())) > 0 {
		t.Errorf("with a ban that waits: %+v", r)
	}
	out = second.must("banmesh leave --uninstall --yes")
	if r := second.sh("nft list table inet banmesh"); r.code == 0 {
		t.Errorf("the kernel's table stays:\n%s", r.out)
	}
	if diff := changed(before, second.files()); len(diff) > 0 {
		t.Errorf("after the removal other files are there than before:\n%s\nit said\n%s", strings.Join(diff, ""), out)
	}
	if out := second.must("fail2ban-client get sshd actions"); strings.Contains(out, "banmesh") {
		t.Errorf("fail2ban still has the action:\n%s", out)
	}
}

// What can go wrong with a token is said, leaves the machine as it was, and is logged at the inviter.
func TestATokenIsRefusedAndTheMachineStaysAsItWas(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	first, second := l.bare(0), l.bare(1)
	before := second.files()
	refused := func(token, want, logged string) {
		t.Helper()
		r := second.sh("banmesh join --name server2 " + token)
		if r.code != 1 || !strings.Contains(r.err, want) || strings.Count(r.err, "\n") != 1 {
			t.Errorf("refused with %+v, want one line with %q", r, want)
		}
		if diff := changed(before, second.files()); len(diff) > 0 {
			t.Errorf("%s: other files are there than before:\n%s", want, strings.Join(diff, ""))
		}
		if logged != "" && !strings.Contains(first.read("/var/log/banmesh.log"), logged) {
			t.Errorf("the inviter does not log %q", logged)
		}
	}
	firstOf(t, first)
	good := strings.TrimSpace(first.must("banmesh invite --for 1s"))
	ends := time.Now().Add(time.Second)
	altered := good[:40] + strings.Map(func(r rune) rune {
		if r == 'A' {
			return 'B'
		}
		return 'A'
	}, good[40:41]) + good[41:]
	refused(altered, "a character is missing, added or altered", "")
	refused(good[:len(good)-1], "a character is missing, added or altered", "")
	eventually(t, 10*time.Second, "the token to end", func() bool { return time.Now().After(ends) })
	refused(good, "the token ended at", "code=expired")

	used := strings.TrimSpace(first.must("banmesh invite"))
	token, err := invite.ParseToken(used)
	if err != nil {
		t.Fatal(err)
	}
	l.within(l.name(1), func() error { // another machine
		_, err := invite.Ask(t.Context(), token, invite.Request{Name: "server3", Machine: "other"})
		return err
	})
	refused(used, "the token was used by server3", "code=used")

	// A machine that is a member already keeps what it has, and the token stays good.
	fresh := strings.TrimSpace(first.must("banmesh invite"))
	for want, made := range map[string]string{
		"was put in place already, as server2, by `banmesh init`": `echo '{"by": "init", "name": "server2"}' > /etc/banmesh/installed.json`,
		"has the keys of another mesh":                            `echo "[\"$(banmesh keygen)\"]" > /etc/banmesh/keyring.json`,
	} {
		second.must("umask 077 && mkdir -p /etc/banmesh && " + made)
		before = second.files()
		refused(fresh, want, "")
		second.must("rm -r /etc/banmesh")
	}
	if !strings.Contains(first.read("/var/log/banmesh.log"), "code=other-mesh") {
		t.Error("the inviter does not log that it has the keys of another mesh")
	}
	before = second.files()
	first.must("systemctl stop banmesh")
	refused(fresh, "no address of the token leads to its inviter", "")
	first.must("systemctl start banmesh")
	eventually(t, 10*time.Second, "the first to run again", func() bool { return first.sh("banmesh members").code == 0 })
	if out := second.must("banmesh join --name server2 " + fresh); !strings.Contains(out, "in sync with 1 other member") {
		t.Errorf("with the good one it says\n%s", out)
	}
	if log := first.read("/var/log/banmesh.log"); strings.Contains(log, fresh) || strings.Contains(log, used) {
		t.Error("a token stands in the log")
	}
}
