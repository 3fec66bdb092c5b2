package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/internal/advice"
	"banmesh/mesh/conductor"
	"banmesh/mesh/control"
	"banmesh/mesh/fail2ban"
	"banmesh/mesh/login"
)

var now = time.UnixMilli(1_800_000_000_000)

// fakeAgent answers what it is told to.
type fakeAgent struct {
	status  control.Status
	members []control.Member
	covered []netip.Addr
	fail    error
}

func (a *fakeAgent) Status(context.Context) (control.Status, error) { return a.status, a.fail }
func (a *fakeAgent) Members(context.Context) ([]control.Member, error) {
	return a.members, a.fail
}
func (a *fakeAgent) Why(_ context.Context, p netip.Prefix) (control.Why, error) {
	ip := p.Addr()
	w := control.Why{IP: ip.String()}
	if slices.Contains(a.covered, ip) {
		w.NeverBans = []control.WhyNeverBan{{Prefix: ip.String(), Origin: "router1"}}
	}
	return w, a.fail
}

type fakeConductor struct {
	running  conductor.Running
	denied   []string
	read     error
	services error
}

func (c *fakeConductor) Read(context.Context) (conductor.Running, error) { return c.running, c.read }
func (c *fakeConductor) Denied(context.Context) ([]string, error)        { return c.denied, c.services }

// reaches is a Dial that some addresses answer.
func reaches(addrs ...string) dialFunc {
	return func(_ context.Context, _, addr string) (net.Conn, error) {
		if !slices.Contains(addrs, addr) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
		}
		a, b := net.Pipe()
		b.Close()
		return a, nil
	}
}

// well is a router with which nothing is wrong.
func well(t *testing.T) Patient {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "it's here")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "keyring.json")
	log := filepath.Join(dir, "auth.log")
	for _, path := range []string{key, log} {
		if err := os.WriteFile(path, []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(log, now, now); err != nil {
		t.Fatal(err)
	}
	leader := "router1"
	own, gateway := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.254")
	admin := netip.MustParseAddr("198.51.100.9")
	seen := control.At(now.Add(-time.Second))
	return Patient{
		Files: []File{{Path: key, What: "the gossip keys", Key: "gossip.keyring", Secret: "ban and unban everywhere", Make: "banmesh keygen"}},
		Agent: &fakeAgent{
			status: control.Status{
				Name: "router1", Version: "1", UptimeS: 3600, Leader: &leader, InSync: true,
				Commit:    control.CommitStatus{Driver: "netconf", State: "idle", LastCommit: control.At(now.Add(-time.Minute))},
				Replicate: &control.ReplicateNow{Counters: map[string]uint64{"packets_received": 9, "streams_taken": 9}},
			},
			members: []control.Member{
				{Name: "router1", Addr: "192.0.2.1:7946", State: "alive", Self: true, InSync: true},
				{Name: "router2", Addr: "192.0.2.2:7946", State: "alive", InSync: true, Seen: seen},
				{Name: "router9", Addr: "192.0.2.9:7946", State: "left"},
			},
			covered: []netip.Addr{own, gateway, admin},
		},
		dial: reaches("192.0.2.2:7946", "192.0.2.10:830", "192.0.2.11:830"), Now: now,
		Synchronized: func() (bool, bool) { return true, true },
		Conductor:    &fakeConductor{running: conductor.Running{Exists: true, Conductor: "192.0.2.10:830"}, denied: []string{"web"}},
		Conductors:   []string{"192.0.2.10:830", "192.0.2.11:830"},
		User:         "admin", KnownHosts: "/etc/banmesh/known_hosts", Tenant: "blacklist-fail2ban",
		Logs:   []fail2ban.LogSource{{Jail: "sshd", Files: []string{log}}, {Jail: "web", Journal: true}},
		Places: []Place{{own, "own address"}, {gateway, "default gateway"}},
		Logins: []login.Session{{User: "ann", Line: "pts/0", From: admin}},
		Shell:  admin,
	}
}

func TestNothingIsWrongWithAHealthyRouter(t *testing.T) {
	for _, f := range Examine(t.Context(), well(t)) {
		if f.Severity != OK || f.Why != "" || f.Fix != "" {
			t.Errorf("finding %+v", f)
		}
	}
}

func TestWhatAGroupMayReadIsNoTrouble(t *testing.T) {
	p := well(t)
	p.Files[0].Group = true
	if err := os.Chmod(p.Files[0].Path, 0o640); err != nil {
		t.Fatal(err)
	}
	for _, f := range Examine(t.Context(), p) {
		if f.Severity != OK {
			t.Errorf("finding %+v", f)
		}
	}
}

func TestWhereNobodyCommitsNothingIsSaidOfIt(t *testing.T) {
	p := well(t)
	a := p.Agent.(*fakeAgent)
	a.status.Commit.State, a.status.Leader, p.Conductor = "off", nil, nil
	for _, f := range Examine(t.Context(), p) {
		if f.Severity != OK || strings.Contains(f.What+f.Why+f.Fix, "onductor") {
			t.Errorf("found %+v", f)
		}
	}
}

func TestEachTroubleIsFoundWithItsFix(t *testing.T) {
	agent := func(p *Patient) *fakeAgent { return p.Agent.(*fakeAgent) }
	fake := func(p *Patient) *fakeConductor { return p.Conductor.(*fakeConductor) }
	refused := "the conductor is away"
	var all []Finding
	for _, c := range []struct {
		name     string
		spoil    func(*Patient)
		severity Severity
		what     string
		fix      string
	}{
		{"a key others can read", func(p *Patient) { os.Chmod(p.Files[0].Path, 0o644) }, Serious, "are 0644", "chmod 600"},
		{"a token others can read", func(p *Patient) { p.Files[0].Group = true; os.Chmod(p.Files[0].Path, 0o644) }, Serious, "are 0644", "chmod 600"},
		{"enforcement that fails", func(p *Patient) {
			agent(p).status.Enforce = &control.Enforcement{Driver: "nftables", State: "failing", Detail: "no permission"}
		}, Serious, "no permission", "banmesh status"},
		{"enforcement that is behind", func(p *Patient) {
			agent(p).status.Enforce = &control.Enforcement{Driver: "nftables", State: "on", BehindMS: 11_000}
		}, Warning, "behind for 11 s", "banmesh status"},
		{"enforcement on an older kernel", func(p *Patient) {
			agent(p).status.Enforce = &control.Enforcement{Driver: "nftables", State: "on", Caveat: "one packet may pass"}
		}, Note, "one packet may pass", ""},
		{"enforcement that is full", func(p *Patient) {
			agent(p).status.Enforce = &control.Enforcement{Driver: "fail2ban", State: "limited", Detail: "7 bans too many"}
		}, Warning, "7 bans too many", "enforce.limit"},
		{"a file others can write", func(p *Patient) { p.Files[0].Secret = ""; os.Chmod(p.Files[0].Path, 0o666) }, Serious, "are 0666", "chmod go-w"},
		{"no key", func(p *Patient) { os.Remove(p.Files[0].Path) }, Serious, "is not there", "banmesh keygen"},
		{"an empty key", func(p *Patient) { os.Truncate(p.Files[0].Path, 0) }, Serious, "is empty", "banmesh keygen"},
		{"no agent", func(p *Patient) { agent(p).fail = errors.New("no agent reachable") }, Serious, "no agent reachable", "systemctl start"},
		{"a failed member", func(p *Patient) {
			agent(p).members[1].State = "failed"
			p.dial = reaches("192.0.2.10:830", "192.0.2.11:830")
		}, Serious, "router2 (192.0.2.2:7946) does not answer", "UDP and TCP 7946"},
		{"a failed member with a name for a shell", func(p *Patient) {
			agent(p).members[1].State, agent(p).members[1].Name = "failed", "x; reboot"
			p.dial = reaches("192.0.2.10:830", "192.0.2.11:830")
		}, Serious, "x; reboot (192.0.2.2:7946) does not answer", "banmesh forget 'x; reboot'"},
		{"UDP closed", func(p *Patient) { agent(p).members[1].State = "failed" }, Serious, "does not answer by UDP, and does by TCP", "open UDP 7946"},
		{"a frozen member", func(p *Patient) {
			agent(p).members[1].State, agent(p).members[1].NoTCP = "failed", "no answer"
		}, Serious, "router2 (192.0.2.2:7946) does not answer, though its TCP port is open", "on it: systemctl restart banmesh"},
		{"a member with which exchanges stall", func(p *Patient) {
			agent(p).members[1].InSync, agent(p).members[1].Stuck = false, "exchanges stall"
		}, Serious, "not in sync: exchanges stall", "ping -c 3 -M do -s 1372 192.0.2.2,"},
		{"little room", func(p *Patient) {
			p.DataDir, p.free = "/", func(string) (int64, bool) { return 5 << 10, true }
		}, Serious, "the disk of / has 5 KiB left", "df /"},
		{"TCP closed", func(p *Patient) { p.dial = reaches("192.0.2.10:830", "192.0.2.11:830") }, Serious, "TCP port cannot be reached: connection refused", "open TCP 7946"},
		{"silence", func(p *Patient) { agent(p).members[1].Seen = control.At(now.Add(-time.Hour)) }, Serious, "nothing came from it for 1h", "open UDP and TCP 7946"},
		{"no UDP from it", func(p *Patient) { agent(p).members[0].Addr = "192.0.2.1:18001"; agent(p).members[1].Mute = "from" }, Serious, "no UDP from it arrives here", "open UDP 18001 inbound on this router and outbound on router2"},
		{"no UDP to it", func(p *Patient) { agent(p).members[1].Mute = "to" }, Serious, "no UDP from here arrives there", "outbound on this router and inbound on router2"},
		{"not known whether in sync", func(p *Patient) { agent(p).members[1].Unknown = true }, Warning, "not known whether it agrees", "banmesh members"},
		{"TCP inbound closed", func(p *Patient) { agent(p).status.Replicate.Counters["streams_taken"] = 0 }, Serious, "no member has ever reached this router by TCP", "open TCP"},
		{"UDP inbound closed", func(p *Patient) { agent(p).status.Replicate.Counters["packets_received"] = 0 }, Serious, "ever reached this router by UDP", "open UDP"},
		{"not in sync", func(p *Patient) { agent(p).members[1].InSync = false }, Warning, "not in sync", "banmesh members"},
		{"another's address", func(p *Patient) {
			agent(p).status.Doubts = []control.Doubt{{What: "router2 says that it is at 172.17.0.1:7946", Fix: "set gossip.advertise there"}}
		}, Serious, "router2 says that it is at 172.17.0.1", "set gossip.advertise there; then systemctl restart"},
		{"alone", func(p *Patient) { agent(p).members = agent(p).members[:1] }, Warning, "no other member", "banmesh join"},
		{"its clock", func(p *Patient) { agent(p).status.SkewMS = -90_000 }, Serious, "this router's clock is -1m30s", "chronyc"},
		{"a member's clock", func(p *Patient) { agent(p).members[1].SkewMS = 5000 }, Warning, "the clock of router2 is 5s", "chronyc"},
		{"no time service", func(p *Patient) { p.Synchronized = func() (bool, bool) { return false, true } }, Warning, "no time service", "chrony"},
		{"commits fail", func(p *Patient) { s := &agent(p).status.Commit; s.State, s.LastError = "failing", &refused }, Serious, "commits fail: the conductor is away", "banmesh status at router1"},
		{"commits wait", func(p *Patient) { s := &agent(p).status.Commit; s.State, s.Detail = "waiting", "for admin" }, Warning, "commits wait: for admin", "candidate"},
		{"nobody leads", func(p *Patient) { agent(p).status.Leader = nil }, Serious, "no router leads", "banmesh status"},
		{"frozen", func(p *Patient) { agent(p).status.Frozen = true }, Warning, "frozen by", "banmesh thaw"},
		{"a silent disk", func(p *Patient) {
			agent(p).status.Store = &control.StoreStatus{Silent: true, Error: "the disk of /d/store.db has not answered for 9s"}
		}, Serious, "has not answered for 9s", "fsfreeze --unfreeze"},
		{"a full disk", func(p *Patient) {
			p.DataDir, p.free = "/", func(string) (int64, bool) { return 1 << 30, true }
			agent(p).status.Store = &control.StoreStatus{Error: "no space left on device"}
		}, Serious, "cannot be written: no space left", "df /"},
		{"this router's fail2ban unnotified", func(p *Patient) {
			agent(p).status.Unnotified = []control.Unnotified{{Router: "router1", Why: "no permission for fail2ban's socket"}}
		}, Serious, "cannot tell this router's fail2ban", "banmesh-fail2ban.socket"},
		{"a fail2ban that does not answer", func(p *Patient) {
			agent(p).status.Unnotified = []control.Unnotified{{Router: "router1", Why: "fail2ban did not answer in time"}}
		}, Serious, "cannot tell this router's fail2ban", "systemctl restart fail2ban"},
		{"another's fail2ban unnotified", func(p *Patient) {
			agent(p).status.Unnotified = []control.Unnotified{{Router: "router2", Why: "no permission"}}
		}, Warning, "the fail2ban of router2 cannot be told", "on router2: banmesh doctor"},
		{"what status alone tells", func(p *Patient) {
			agent(p).status.Further = []string{"router2 takes no new ban: raise limits.stored"}
		}, Warning, "router2 takes no new ban: raise limits.stored", ""},
		{"held removals", func(p *Patient) { agent(p).status.Commit.Held = 5 }, Warning, "5 changes are held", "banmesh commit --force"},
		{"login over REST", func(p *Patient) {
			p.Conductors = []string{"https://192.0.2.1"}
			fake(p).read = fmt.Errorf("%w: x", conductor.ErrLogin)
		}, Serious, "refused the credentials", "commit.password_file"},
		{"certificate", func(p *Patient) {
			p.Conductors = []string{"https://192.0.2.1"}
			fake(p).read = fmt.Errorf("%w: x", conductor.ErrHostKey)
		}, Serious, "", "banmesh conductor trust https://192.0.2.1, compare"},
		{"login", func(p *Patient) { fake(p).read = fmt.Errorf("%w: x", conductor.ErrLogin) }, Serious, "refused the credentials", "netconf_authorized_keys"},
		{"host key", func(p *Patient) { fake(p).read = fmt.Errorf("%w: x", conductor.ErrHostKey) }, Serious, "host key is not the known one", "banmesh conductor trust 192.0.2.10:830 --known-hosts /etc/banmesh/known_hosts"},
		{"no conductor", func(p *Patient) { fake(p).read = fmt.Errorf("%w: x", conductor.ErrUnreachable) }, Serious, "no conductor can be reached", "commit.driver"},
		{"half a conductor", func(p *Patient) { p.dial = reaches("192.0.2.2:7946", "192.0.2.10:830") }, Warning, "node 192.0.2.11:830 cannot be reached", "open TCP"},
		{"everybody", func(p *Patient) { fake(p).read = conductor.ErrWideOpen }, Serious, "holds everybody", "delete that address"},
		{"no tenant", func(p *Patient) { fake(p).running.Exists = false }, Note, "is not there yet", "banmesh commit"},
		{"no deny", func(p *Patient) { fake(p).denied = nil }, Serious, "no service denies the tenant blacklist-fail2ban", "access-policy blacklist-fail2ban permission deny"},
		{"services unread", func(p *Patient) { fake(p).services = errors.New("no right") }, Note, "was not looked at: no right", "show config running"},
		{"fail2ban", func(p *Patient) {
			p.Fail2ban = []fail2ban.Finding{{Severity: fail2ban.Serious, What: "no actionflush", Why: "w", Fix: "install"}}
		}, Serious, "no actionflush", "install"},
		{"no log", func(p *Patient) { os.Remove(p.Logs[0].Files[0]) }, Serious, "which is not there", "backend = systemd"},
		{"a silent log", func(p *Patient) { os.Chtimes(p.Logs[0].Files[0], now, now.Add(-72*time.Hour)) }, Warning, "nothing was written since", "logger"},
		{"a log for all", func(p *Patient) { os.Chmod(p.Logs[0].Files[0], 0o666) }, Warning, "everybody may write", "chmod o-w"},
		{"own address", func(p *Patient) { agent(p).covered = agent(p).covered[1:] }, Serious, "never-ban does not cover 192.0.2.1 (own address)", "banmesh allow add 192.0.2.1"},
		{"an administrator", func(p *Patient) { p.Logins[0].From = netip.MustParseAddr("203.0.113.3") }, Warning, "ann is logged in from 203.0.113.3", "banmesh allow add 203.0.113.3"},
		{"an agent that says nothing of members", func(p *Patient) { p.Agent = &mute{agent(p), "members"} }, Serious, "members cannot be had", "banmesh members"},
		{"an agent that says nothing of never-bans", func(p *Patient) { p.Agent = &mute{agent(p), "why"} }, Warning, "why cannot be had", "banmesh why 192.0.2.1"},
		{"its clock, a little", func(p *Patient) { agent(p).status.SkewMS = 3000 }, Warning, "this router's clock is 3s", "chronyc"},
		{"a conductor that answers nonsense", func(p *Patient) { fake(p).read = errors.New("not XML") }, Serious, "the conductor: not XML", "banmesh diff"},
		{"no deny yet", func(p *Patient) { fake(p).denied, fake(p).running.Exists = nil, false }, Warning, "no service denies the tenant", "permission deny"},
		{"a key behind a file", func(p *Patient) { p.Files[0].Path += "/key" }, Warning, "cannot be looked at", "ls -l"},
		{"a directory in the place of a key", func(p *Patient) { os.Remove(p.Files[0].Path); os.Mkdir(p.Files[0].Path, 0o700) }, Serious, "is no file", "banmesh keygen"},
		{"a log behind a file", func(p *Patient) { p.Logs[0].Files[0] += "/log" }, Warning, "not a directory", "as root"},
		{"the one who asks", func(p *Patient) { p.Shell = netip.MustParseAddr("203.0.113.4") }, Warning, "you are logged in from 203.0.113.4", "banmesh allow add 203.0.113.4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := well(t)
			c.spoil(&p)
			found := Examine(t.Context(), p)
			var wrong []Finding
			for _, f := range found {
				if f.Severity != OK {
					wrong = append(wrong, f)
				}
			}
			if !slices.ContainsFunc(wrong, func(f Finding) bool {
				return f.Severity == c.severity && strings.Contains(f.What, c.what) && f.Why != "" && strings.Contains(f.Fix, c.fix)
			}) {
				t.Errorf("found %+v\nwant %s %q, fixed by %q", wrong, c.severity, c.what, c.fix)
			}
			if len(wrong) > 1 && c.name != "no deny yet" { // there is no tenant either
				t.Errorf("one trouble is told %d times: %+v", len(wrong), wrong)
			}
			if got := AnySerious(found); got != (c.severity == Serious) {
				t.Errorf("serious: %v", got)
			}
			all = append(all, wrong...)
			// What is advised is done, and then found no more.
			for _, f := range wrong {
				if !(operator{t, &p}).heed(f) {
					continue
				}
				if again := Examine(t.Context(), p); slices.ContainsFunc(again, func(g Finding) bool { return g.Severity != OK && g.What == f.What }) {
					t.Errorf("after %q there is still %+v", f.Fix, f)
				}
			}
		})
	}
	sites := advice.Sites(t, ".")
	if len(sites) < 40 {
		t.Fatalf("%d places make findings: the test proves nothing", len(sites))
	}
	for call, says := range sites {
		if slices.Contains(says[2], "run banmesh doctor as root") && slices.Contains(says[1], "Its rights are not known: ") {
			continue // root, who runs the tests, may look at everything
		}
		if !slices.ContainsFunc(all, func(f Finding) bool { return says.Of(f.What, f.Why, f.Fix) }) {
			t.Errorf("%s: no entry of this table is told that", call)
		}
	}
}

// mute is an agent that fails to answer one question.
type mute struct {
	*fakeAgent
	what string
}

func (m *mute) Members(ctx context.Context) ([]control.Member, error) {
	if m.what == "members" {
		return nil, errors.New("members cannot be had")
	}
	return m.fakeAgent.Members(ctx)
}

func (m *mute) Why(ctx context.Context, p netip.Prefix) (control.Why, error) {
	if m.what == "why" {
		return control.Why{}, errors.New("why cannot be had")
	}
	return m.fakeAgent.Why(ctx, p)
}

func TestOfManyMembersAlikeAFewAreNamed(t *testing.T) {
	for made, want := range map[int]int{5: 5, 6: 6, 2000: 6} {
		p := well(t)
		agent := p.Agent.(*fakeAgent)
		for i := range made {
			agent.members = append(agent.members, control.Member{Name: fmt.Sprintf("-made%d", i), Addr: fmt.Sprintf("192.0.2.9:%d", i+1), State: "failed"})
		}
		var lines []string
		for _, f := range Examine(t.Context(), p) {
			if f.Severity == Serious {
				lines = append(lines, f.What)
			}
			if strings.Contains(f.Fix, "banmesh forget -m") {
				t.Errorf("a name is advised as a flag: %s", f.Fix)
			}
		}
		if len(lines) != want || made == 2000 && lines[5] != "1995 more members are like that: banmesh members names them" {
			t.Errorf("%d members that fail are %d findings, want %d: %q", made, len(lines), want, lines[:min(len(lines), 8)])
		}
	}
}

// A refused login counts towards the lock of the account: the doctor tries once.
func TestARefusedLoginIsNotRepeated(t *testing.T) {
	p := well(t)
	c := &counting{fakeConductor{read: conductor.ErrLogin}, 0}
	p.Conductor = c
	Examine(t.Context(), p)
	if c.asked != 1 {
		t.Errorf("logged in %d times, want once", c.asked)
	}
}

type counting struct {
	fakeConductor
	asked int
}

func (c *counting) Read(ctx context.Context) (conductor.Running, error) {
	c.asked++
	return c.fakeConductor.Read(ctx)
}

func (c *counting) Denied(ctx context.Context) ([]string, error) {
	c.asked++
	return c.fakeConductor.Denied(ctx)
}

func TestConductorsAreNamedAsHostPortOrURL(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:830": "192.0.2.1:830", "[2001:db8::1]:830": "[2001:db8::1]:830",
		"https://192.0.2.1": "192.0.2.1:443", "https://[2001:db8::1]:8443/api": "[2001:db8::1]:8443",
	} {
		if got := hostPort(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
