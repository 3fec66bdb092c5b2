package e2e

import (
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// hosts is n agents in namespaces of their own.
func hosts(t *testing.T, n int) (*lab, []*agent) {
	t.Helper()
	l := newLab(t, n)
	var all []*agent
	for i := range n {
		all = append(all, l.agent(i, settings{extra: "log: {level: error}\n"}).start())
	}
	return l, all
}

func (l *lab) lose(percent int) {
	l.t.Helper()
	for h := range l.hosts {
		l.nft(h, fmt.Sprintf("table inet loss {\n\tchain in {\n\t\ttype filter hook input priority 0\n\t\tiif eth0 numgen random mod 100 < %d counter drop\n\t}\n}\n", percent))
	}
}

// dropped says how many packets the hosts' tables of that name have dropped; that
// there are none is a failure.
func (l *lab) dropped(table string, among ...int) {
	l.t.Helper()
	total := 0
	for _, host := range among {
		line := append(l.inside(host), "nft", "list", "table", "inet", table)
		out, err := exec.Command(line[0], line[1:]...).CombinedOutput()
		m := counted.FindSubmatch(out)
		if err != nil || m == nil {
			l.t.Fatalf("nft list table %s in %s: %v: %s", table, l.name(host), err, out)
		}
		n, _ := strconv.Atoi(string(m[1]))
		total += n
	}
	l.t.Logf("%d packets dropped", total)
	if total == 0 {
		l.t.Errorf("table %s dropped nothing: the network was well", table)
	}
}

var counted = regexp.MustCompile(`counter packets (\d+)`)

func TestPacketsAreLost(t *testing.T) {
	for _, c := range []struct {
		percent        int
		length, during time.Duration // of the work; until all are everywhere with the loss still there
	}{{5, 5 * time.Second, 10 * time.Second}, {15, 5 * time.Second, 20 * time.Second}, {30, 8 * time.Second, 40 * time.Second}} {
		t.Run(fmt.Sprintf("%d %%", c.percent), func(t *testing.T) {
			t.Parallel()
			l, agents := hosts(t, 4)
			r := onRough(t, agents)
			l.lose(c.percent)
			r.work(c.length, agents...)
			r.complete("while packets are lost", c.during)
			l.dropped("loss", 0, 1, 2, 3)
		})
	}
}

// TestOneDirectionIsCut: some pairs of routers have only one direction, or only
// one protocol; the others pass on what they cannot tell each other.
func TestOneDirectionIsCut(t *testing.T) {
	t.Parallel()
	l, agents := hosts(t, 4)
	r := onRough(t, agents)
	l.refuse(3, "ip saddr "+l.addr(0))                         // nothing from 0 reaches 3
	l.refuse(1, "ip saddr "+l.addr(2)+" meta l4proto udp")     // from 2 to 1 only TCP
	l.refuse(2, "ip saddr "+l.addr(3)+" tcp flags & syn != 0") // between 3 and 2 no stream
	r.work(10*time.Second, agents...)
	r.complete("while one direction is cut", 30*time.Second)
	l.dropped("cut", 3)
	l.dropped("cut", 1)
	l.heal(1, 2, 3)
	r.ban(agents[0], 1)
	r.complete("afterwards", 15*time.Second)
	for _, a := range agents {
		eventually(t, 30*time.Second, a.name+" to see all", func() bool { return a.status().Members.Alive == 4 })
	}
}

// refuse drops what comes in and matches, until heal.
func (l *lab) refuse(host int, match string) {
	l.t.Helper()
	l.nft(host, "table inet cut {\n\tchain in {\n\t\ttype filter hook input priority 0\n\t\t"+match+" counter drop\n\t}\n}\n")
}

// TestPathWithSmallPackets: an MTU of 1280 as in a tunnel, also where fragments
// get lost, so that no full frame arrives.
func TestPathWithSmallPackets(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	var agents []*agent
	for i := range 3 {
		l.ip("-n", l.name(i), "link", "set", "eth0", "mtu", "1280")
		l.ip("-n", l.id+"-br", "link", "set", fmt.Sprintf("port%d", i), "mtu", "1280")
		agents = append(agents, l.agent(i, settings{extra: "log: {level: error}\n"}).start())
	}
	r := onRough(t, agents)
	storm := func(when string, within time.Duration) {
		t.Helper()
		for i := range 3 { // frames that fill a packet of 1500 bytes
			r.ban(agents[i], 500)
		}
		r.complete(when, within)
		r.work(2*time.Second, agents...)
		r.complete(when, within)
	}
	storm("with an MTU of 1280", 10*time.Second)
	for i := range 3 {
		l.nft(i, "table inet cut {\n\tchain in {\n\t\ttype filter hook prerouting priority -450\n\t\tip frag-off & 0x3fff != 0 counter drop\n\t}\n}\n")
	}
	storm("without fragments", 20*time.Second)
	l.dropped("cut", 0, 1, 2)
}

// TestOnlyIPv6: no host has an IPv4 address.
func TestOnlyIPv6(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	addr := func(i int) string { return fmt.Sprintf("[fd77::%d]:7946", i+1) }
	var agents []*agent
	for i := range 3 {
		ns := l.name(i)
		l.ip("-n", ns, "addr", "flush", "dev", "eth0", "scope", "global")
		l.ip("-n", ns, "-6", "addr", "add", fmt.Sprintf("fd77::%d/64", i+1), "dev", "eth0", "nodad")
		s := settings{wrap: l.inside(i), gossip: fmt.Sprintf("{bind: %q, keyring: %s}", addr(i), l.keyring), extra: "log: {level: error}\n"}
		if i > 0 {
			s.peers = []string{addr(0)}
		}
		agents = append(agents, newAgent(t, fmt.Sprintf("router%d", i+1), s).start())
	}
	r := onRough(t, agents)
	r.work(3*time.Second, agents...)
	r.complete("with IPv6 alone", 10*time.Second)
	agents[2].kill()
	r.ban(agents[0], 3)
	agents[2].start()
	r.complete("after a restart", 15*time.Second)
}

// TestRouterBehindNAT: one agent has a private address; the others reach it at
// its gateway's, where another port leads to it.
func TestRouterBehindNAT(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	const gateway = 2
	gw, inner := l.name(gateway), l.id+"-in"
	l.namespace(inner)
	l.ip("link", "add", "eth0", "netns", inner, "type", "veth", "peer", "name", "lan0", "netns", gw)
	for _, x := range [][]string{
		{"-n", inner, "addr", "add", "192.168.77.2/24", "dev", "eth0"}, {"-n", inner, "link", "set", "lo", "up"}, {"-n", inner, "link", "set", "eth0", "up"},
		{"-n", gw, "addr", "add", "192.168.77.1/24", "dev", "lan0"}, {"-n", gw, "link", "set", "lan0", "up"},
		{"-n", inner, "route", "add", "default", "via", "192.168.77.1"},
		{"netns", "exec", gw, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"},
	} {
		l.ip(x...)
	}
	l.nft(gateway, `table ip nat {
	chain pre {
		type nat hook prerouting priority -100
		iif eth0 udp dport 17946 dnat to 192.168.77.2:7946
		iif eth0 tcp dport 17946 dnat to 192.168.77.2:7946
	}
	chain post {
		type nat hook postrouting priority 100
		oif eth0 masquerade
	}
}
`)
	var agents []*agent
	for i := range 2 {
		agents = append(agents, l.agent(i, settings{extra: "log: {level: error}\n"}).start())
	}
	agents = append(agents, newAgent(t, "router3", settings{
		wrap: []string{"ip", "netns", "exec", inner}, peers: []string{l.addr(0) + ":7946"}, extra: "log: {level: error}\n",
		gossip: fmt.Sprintf("{bind: %q, advertise: %q, keyring: %s}", "192.168.77.2:7946", l.addr(gateway)+":17946", l.keyring),
	}).start())
	r := onRough(t, agents)
	r.work(3*time.Second, agents...)
	r.complete("behind NAT", 10*time.Second)
	agents[0].kill() // who comes back is called by those that it cannot know to be there
	r.ban(agents[2], 3)
	agents[0].start()
	r.complete("after a restart outside", 15*time.Second)
	agents[2].kill()
	r.ban(agents[0], 3)
	agents[2].start()
	r.complete("after a restart inside", 15*time.Second)
}

// TestLinkThatFlaps: a router's link goes down and up each second.
func TestLinkThatFlaps(t *testing.T) {
	t.Parallel()
	l, agents := hosts(t, 3)
	r := onRough(t, agents)
	port := func(state string) {
		l.ip("-n", l.id+"-br", "link", "set", "port2", state)
	}
	for range 9 {
		port("down")
		r.work(time.Second, agents...)
		port("up")
		r.work(time.Second, agents...)
	}
	r.complete("after the last flap", 20*time.Second)
}

// TestFrozenMembers: first a follower, then the leader stands still for longer
// than the others wait for it.
func TestFrozenMembers(t *testing.T) {
	t.Parallel()
	cond := startConductor(t)
	agents := trio(t, settings{commit: cond.commitTo(steady), extra: "log: {level: error}\n"})
	r := onRough(t, agents)
	d := deeds{}
	for p := range r.want {
		d[p] = []deed{{begun: r.given[p], end: r.given[p]}}
	}
	for _, what := range []string{"a follower", "the leader"} {
		lead, others := leaderOf(t, agents)
		frozen := others[0]
		if what == "the leader" {
			frozen = lead
		}
		awake := slices.DeleteFunc(slices.Clone(agents), func(a *agent) bool { return a == frozen })
		frozen.cmd.Process.Signal(syscall.SIGSTOP)
		for _, a := range awake {
			eventually(t, 30*time.Second, a.name+" to give up on "+frozen.name, func() bool { return a.status().Members.Failed == 1 })
		}
		r.ban(awake[0], 2)
		lift := slices.Sorted(maps.Keys(r.want))[0]
		d.unban(awake[1], lift)
		delete(r.want, lift)
		for p := range r.want {
			if d[p] == nil {
				d[p] = []deed{{begun: r.given[p].Add(-time.Second), end: r.given[p]}}
			}
		}
		tenantBecomes(t, 40*time.Second, cond, r.want)
		frozen.cmd.Process.Signal(syscall.SIGCONT)
		r.complete("after "+what+" was frozen", 20*time.Second)
		awaitMembers(t, agents, 3)
		leaderOf(t, agents)
		tenantBecomes(t, 30*time.Second, cond, r.want)
	}
	content(t, cond, d)
}
