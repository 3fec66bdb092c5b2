package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banmesh/internal/need"
)

// lab is a network of hosts, each a network namespace with one address, joined
// by a bridge in yet another: nothing of the machine's own network is touched.
type lab struct {
	t       testing.TB
	id      string
	hosts   int
	keyring string
}

func newLab(t testing.TB, hosts int) *lab {
	t.Helper()
	need.Programs(t, "ip", "nft")
	need.Root(t)
	var random [4]byte
	rand.Read(random[:])
	l := &lab{t: t, id: "bm" + hex.EncodeToString(random[:]), hosts: hosts}
	bridge := l.id + "-br"
	l.namespace(bridge)
	l.ip("-n", bridge, "link", "add", "br0", "type", "bridge")
	l.ip("-n", bridge, "link", "set", "br0", "up")
	for i := range hosts {
		ns, port := l.name(i), fmt.Sprintf("port%d", i)
		l.namespace(ns)
		l.ip("link", "add", "eth0", "netns", ns, "type", "veth", "peer", "name", port, "netns", bridge)
		l.ip("-n", bridge, "link", "set", port, "master", "br0", "up")
		l.ip("-n", ns, "addr", "add", l.addr(i)+"/24", "dev", "eth0")
		l.ip("-n", ns, "link", "set", "lo", "up")
		l.ip("-n", ns, "link", "set", "eth0", "up")
	}
	key := strings.TrimSpace(command(t, nil, "keygen").out)
	l.keyring = filepath.Join(shortDir(t), "keyring.json")
	if err := os.WriteFile(l.keyring, []byte(`["`+key+`"]`), 0o600); err != nil {
		t.Fatal(err)
	}
	return l
}

// namespace makes one that lasts as long as the test: what runs in there is
// ended before.
func (l *lab) namespace(name string) {
	l.t.Helper()
	l.ip("netns", "add", name)
	l.t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			l.t.Errorf("ip netns del %s: %v: %s", name, err, out)
		}
	})
}

func (l *lab) ip(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (l *lab) name(host int) string { return fmt.Sprintf("%s-%d", l.id, host) }
func (l *lab) addr(host int) string { return fmt.Sprintf("10.77.0.%d", host+1) }

// inside is the beginning of a command line that runs on a host.
func (l *lab) inside(host int) []string { return []string{"ip", "netns", "exec", l.name(host)} }

// nft gives a host rules.
func (l *lab) nft(host int, rules string) {
	l.t.Helper()
	line := append(l.inside(host), "nft", "-f", "-")
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stdin = strings.NewReader(rules)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		l.t.Fatalf("nft in %s: %v: %s", l.name(host), err, &out)
	}
}

// cut parts two groups of hosts from each other. Who is in neither reaches all.
func (l *lab) cut(one, other []int) {
	l.t.Helper()
	drop := func(hosts, from []int) {
		var addrs []string
		for _, h := range from {
			addrs = append(addrs, l.addr(h))
		}
		for _, h := range hosts {
			l.nft(h, "table inet cut {\n\tchain in {\n\t\ttype filter hook input priority 0\n\t\tip saddr { "+strings.Join(addrs, ", ")+" } drop\n\t}\n}\n")
		}
	}
	drop(one, other)
	drop(other, one)
}

// heal joins what cut has parted.
func (l *lab) heal(hosts ...int) {
	l.t.Helper()
	for _, h := range hosts {
		l.nft(h, "delete table inet cut\n")
	}
}

// agent writes the configuration of router host+1 on a host; it knows the first.
func (l *lab) agent(host int, s settings) *agent {
	l.t.Helper()
	s.wrap = l.inside(host)
	s.gossip = fmt.Sprintf("{bind: \"%s:7946\", keyring: %s}", l.addr(host), l.keyring)
	if host > 0 {
		s.peers = []string{l.addr(0) + ":7946"}
	}
	return newAgent(l.t, fmt.Sprintf("router%d", host+1), s)
}

// conductor runs on the last host.
func (l *lab) conductor(args ...string) *conductor {
	l.t.Helper()
	host := l.hosts - 1
	return startConductorAt(l.t, l.inside(host), l.addr(host)+":830", args...)
}

// deeds is what people have done, to judge a conductor's history by.
type deeds map[string][]deed

type deed struct {
	lift       bool
	begun, end time.Time
}

func (d deeds) ban(a *agent, prefixes ...string) {
	a.t.Helper()
	d.do(false, prefixes, func() { a.must(append([]string{"ban", "--for", "1h"}, prefixes...)...) })
}

func (d deeds) unban(a *agent, prefixes ...string) {
	a.t.Helper()
	d.do(true, prefixes, func() { a.must(append([]string{"unban"}, prefixes...)...) })
}

func (d deeds) do(lift bool, prefixes []string, run func()) {
	begun := time.Now()
	run()
	for _, p := range prefixes {
		d[p] = append(d[p], deed{lift, begun, time.Now()})
	}
}

// banned reports whether anybody had begun to ban it by then and, if stale says
// so, not everybody had long known of its unban.
func (d deeds) came(prefix string, at time.Time, stale bool) error {
	const known = 5 * time.Second
	ever, lifted := false, false
	for _, x := range d[prefix] {
		switch {
		case !x.lift && !x.begun.After(at):
			ever, lifted = true, false
		case x.lift && at.Sub(x.end) > known:
			lifted = true
		}
	}
	switch {
	case !ever:
		return fmt.Errorf("nobody had banned it")
	case lifted && stale:
		return fmt.Errorf("it had been unbanned more than %v before", known)
	}
	return nil
}

// gone reports whether anybody had begun to unban it by then.
func (d deeds) gone(prefix string, at time.Time) error {
	for _, x := range d[prefix] {
		if x.lift && !x.begun.After(at) {
			return nil
		}
	}
	return fmt.Errorf("nobody had unbanned it")
}
