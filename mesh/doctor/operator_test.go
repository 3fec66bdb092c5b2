package doctor

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"banmesh/mesh/control"
	"banmesh/mesh/fail2ban"
)

// operator does what findings advise, by the word, to a Patient: each deed changes only what the advice names. So an advice that
// names a wrong port, router, file or key leaves the finding there.
type operator struct {
	t *testing.T
	p *Patient
}

// deeds are what an operator knows to do, by the whole text of the advice.
var deeds = []struct {
	fix string
	do  func(o operator, arg []string)
}{
	// Files: done as it is written.
	{`chmod (?:600|go-w|o-w) .*`, operator.run},
	{`banmesh keygen`, func(o operator, arg []string) { // what File.Make says is the caller's
		os.RemoveAll(o.p.Files[0].Path)
		os.WriteFile(o.p.Files[0].Path, []byte("x\n"), 0o600)
	}},
	{`let rsyslog write it, or set backend = systemd in the jail; then fail2ban-client reload --restart sshd`, operator.journal},
	{`logger -p authpriv.info banmesh-test && tail -n 1 .*; if it is not there, set backend = systemd in the jail`, operator.journal},

	// The mesh.
	{`systemctl start banmesh; journalctl -u banmesh`, func(o operator, _ []string) { o.agent().fail = nil }},
	{`banmesh join ADDRESS:7946`, func(o operator, _ []string) {
		a := o.agent()
		a.members = append(a.members, control.Member{Name: "router2", Addr: "192.0.2.2:7946", State: "alive", InSync: true, Seen: control.At(now)})
	}},
	{`set gossip.advertise there; then systemctl restart banmesh there`, func(o operator, _ []string) { o.agent().status.Doubts = nil }},
	{`open (UDP|TCP) of gossip.bind inbound in this router's firewall`, func(o operator, arg []string) {
		o.agent().status.Replicate.Counters[map[string]string{"UDP": "packets_received", "TCP": "streams_taken"}[arg[1]]] = 9
	}},
	{`on it: systemctl status banmesh; then open UDP and TCP (\d+) both ways; if it is gone for good, banmesh forget (.*)`, func(o operator, arg []string) {
		out, err := exec.Command("sh", "-c", "printf %s "+arg[2]).Output() // as one word
		if a := o.agent(); err == nil && string(out) == a.members[1].Name {
			a.members[1].State, o.p.dial = "left", reaches("192.0.2.10:830", "192.0.2.11:830")
		}
		if len(o.agent().members) == 3 && arg[1] == "7946" {
			o.agent().members[1] = member2()
			o.reach("192.0.2.2:" + arg[1])
		}
	}},
	{`on it: systemctl restart banmesh; journalctl -u banmesh says what it did last`, func(o operator, _ []string) { o.agent().members[1] = member2() }},
	{`on it: banmesh doctor; here: ping -c 3 -M do -s 1372 192\.0\.2\.2, and if only smaller ones are answered, ip link set dev INTERFACE mtu 1280 on both`, func(o operator, _ []string) { o.agent().members[1] = member2() }},
	{`(?:banmesh members; if it stays, )?open (UDP|TCP|UDP and TCP) (\d+) both ways(?: between the routers)?`, func(o operator, arg []string) {
		if strings.Contains(arg[1], "TCP") {
			o.reach("192.0.2.2:" + arg[2])
		}
		if arg[2] == "7946" { // where router2 listens
			o.agent().members[1] = member2()
		}
	}},
	{`open UDP (\d+) inbound on this router and outbound on router2`, func(o operator, arg []string) {
		if a := o.agent(); strings.HasSuffix(a.members[0].Addr, ":"+arg[1]) && a.members[1].Mute == "from" {
			a.members[1].Mute = ""
		}
	}},
	{`open UDP (\d+) outbound on this router and inbound on router2`, func(o operator, arg []string) {
		if a := o.agent(); strings.HasSuffix(a.members[1].Addr, ":"+arg[1]) && a.members[1].Mute == "to" {
			a.members[1].Mute = ""
		}
	}},

	// Clocks.
	{`chronyc makestep, or systemctl restart systemd-timesyncd; then timedatectl`, func(o operator, _ []string) { o.agent().status.SkewMS = 0 }},
	{`on the router that is wrong: chronyc makestep, or systemctl restart systemd-timesyncd`, func(o operator, _ []string) { o.agent().members[1].SkewMS = 0 }},
	{`apt-get install chrony, or timedatectl set-ntp true`, func(o operator, _ []string) { o.p.Synchronized = func() (bool, bool) { return true, true } }},

	// The store.
	{`make room on it: (df .*), and du -xh on its mount point say what fills it`, func(o operator, arg []string) {
		o.run(arg)
		o.p.free = func(string) (int64, bool) { return 1 << 30, true }
	}},
	{`make \S+ writable, and room on its disk: (df .*); the agent goes on by itself`, func(o operator, arg []string) {
		o.run(arg)
		o.agent().status.Store = &control.StoreStatus{Healthy: true}
	}},
	{`bring the volume of \S+ back \(dmesg; where it is frozen: fsfreeze --unfreeze on its mount point\): findmnt --target .*`, func(o operator, _ []string) {
		o.agent().status.Store = &control.StoreStatus{Healthy: true}
	}},
	{`enforce: \{driver: nftables\}, or a higher enforce.limit`, func(o operator, _ []string) {
		o.agent().status.Enforce = &control.Enforcement{Driver: "nftables", State: "on"}
	}},

	// fail2ban.
	{`systemctl enable --now banmesh-fail2ban.socket`, notified("permission")},
	{`fail2ban-client ping, and systemctl restart fail2ban where it does not answer`, notified("answer in time")},
	{`on (\S+): banmesh doctor`, func(o operator, arg []string) {
		s := &o.agent().status
		s.Unnotified = slices.DeleteFunc(s.Unnotified, func(u control.Unnotified) bool { return u.Router == arg[1] })
	}},
	{`install`, func(o operator, _ []string) { o.p.Fail2ban = nil }}, // as a finding of the check says in this test

	// Addresses.
	{`banmesh allow add (\S+), or never_ban in the configuration and systemctl reload banmesh`, operator.allow},
	{`banmesh allow add (\S+) --comment administrator`, operator.allow},

	// The conductor.
	{`commit or discard what another administrator has left in the candidate`, func(o operator, _ []string) { o.agent().status.Commit.State = "idle" }},
	{`banmesh thaw`, func(o operator, _ []string) { o.agent().status.Frozen = false }},
	{`banmesh diff, then banmesh commit --force`, func(o operator, _ []string) { o.agent().status.Commit.Held = 0 }},
	{`open TCP from this router to it; on it: systemctl status 128T`, func(o operator, _ []string) { o.reach("192.0.2.11:830") }},
	{`open TCP from this router to the conductor; up to release 5\.2 commit\.driver is netconf \(port 830\), from 5\.3 on rest`, operator.reads},
	{`banmesh conductor trust 192\.0\.2\.10:830 --known-hosts /etc/banmesh/known_hosts`, operator.reads},
	{`banmesh conductor trust https://192\.0\.2\.1, compare it at the conductor, and put what it shows into commit\.pin_sha256; a certificate that has expired must be renewed there`, operator.reads},
	{`put this router's public key into /home/admin/\.ssh/netconf_authorized_keys on each conductor node`, operator.reads},
	{`make the account admin at the conductor have the password in commit\.password_file, or renew the token in commit\.token_file`, operator.reads},
	{`delete that address from the tenant at the conductor`, operator.reads},
	{`banmesh commit`, func(o operator, _ []string) { o.conductor().running.Exists = true }},
	{`at the conductor: configure authority service NAME access-policy (\S+) permission deny; then commit \(see examples/conductor/service\.txt\)`, func(o operator, arg []string) {
		if arg[1] == o.p.Tenant {
			o.conductor().denied = []string{"web"}
		}
	}},
}

// looks are advices that only say where to look: the finding is another's word, passed on, and that word says what helps.
var looks = regexp.MustCompile(`^(?:` + strings.Join([]string{
	`banmesh status(?: at \S+)?`, `banmesh status; journalctl -u banmesh`, `banmesh members`, `banmesh diff`, `banmesh why \S+`, `ls -l .*`,
	`run banmesh doctor as root`, `at the conductor: show config running authority service`,
}, "|") + `)$`)

// heed does what a finding advises. It says whether there was something to do.
func (o operator) heed(f Finding) bool {
	o.t.Helper()
	for _, d := range deeds {
		if arg := regexp.MustCompile(`^(?s:` + d.fix + `)$`).FindStringSubmatch(f.Fix); arg != nil {
			d.do(o, arg)
			return true
		}
	}
	if f.Fix != "" && !looks.MatchString(f.Fix) {
		o.t.Errorf("no operator of this test knows what to do: %q", f.Fix)
	}
	return false
}

func (o operator) agent() *fakeAgent         { return o.p.Agent.(*fakeAgent) }
func (o operator) conductor() *fakeConductor { return o.p.Conductor.(*fakeConductor) }

// run has a shell do the last of the words.
func (o operator) run(arg []string) {
	o.t.Helper()
	line := arg[len(arg)-1]
	if out, err := exec.Command("sh", "-c", line).CombinedOutput(); err != nil {
		o.t.Errorf("%s: %v: %s", line, err, out)
	}
}

// journal has the jail read it.
func (o operator) journal([]string) {
	o.p.Logs[0] = fail2ban.LogSource{Jail: "sshd", Journal: true}
}

// reach opens an address beside those that are open.
func (o operator) reach(addr string) {
	was, opened := o.p.dial, reaches(addr)
	o.p.dial = func(ctx context.Context, network, to string) (net.Conn, error) {
		if to == addr {
			return opened(ctx, network, to)
		}
		return was(ctx, network, to)
	}
}

func (o operator) reads([]string) { o.conductor().read = nil }

func (o operator) allow(arg []string) {
	o.agent().covered = append(o.agent().covered, netip.MustParseAddr(arg[1]))
}

// notified is the cure of one reason why this router's fail2ban is not told.
func notified(reason string) func(operator, []string) {
	return func(o operator, _ []string) {
		s := &o.agent().status
		s.Unnotified = slices.DeleteFunc(s.Unnotified, func(u control.Unnotified) bool {
			return u.Router == s.Name && strings.Contains(u.Why, reason)
		})
	}
}

// member2 is router2 when it is well.
func member2() control.Member {
	return control.Member{Name: "router2", Addr: "192.0.2.2:7946", State: "alive", InSync: true, Seen: control.At(now)}
}
