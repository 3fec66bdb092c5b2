package web

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"banmesh/internal/need"
	"banmesh/store"
)

// TestARealFirewallBouncerFollowsTheDecisions runs Debian's
// crowdsec-firewall-bouncer in a network namespace of its own: what is banned is in
// its sets within its interval, and what is unbanned is out of them.
func TestARealFirewallBouncerFollowsTheDecisions(t *testing.T) {
	need.Root(t)
	need.Programs(t, "crowdsec-firewall-bouncer", "ip", "nft")
	ns := fmt.Sprintf("bm-bouncer-%d", os.Getpid())
	inside := func(args ...string) (string, error) {
		out, err := exec.Command("ip", append([]string{"netns", "exec", ns}, args...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
		t.Fatalf("ip netns add: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", ns).Run() })
	if out, err := inside("ip", "link", "set", "lo", "up"); err != nil {
		t.Fatalf("lo: %v: %s", err, out)
	}

	st, err := store.Open(store.Config{Path: filepath.Join(t.TempDir(), "store.db"), Origin: "router1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	hold := func(prefixes ...string) {
		t.Helper()
		var reqs []store.BanRequest
		for _, p := range prefixes {
			reqs = append(reqs, store.BanRequest{Prefix: netip.MustParsePrefix(p), Jail: "sshd", Until: store.At(time.Now().Add(time.Hour))})
		}
		if _, err := st.Ban(t.Context(), reqs); err != nil {
			t.Fatal(err)
		}
	}
	s := newServer(t, Config{Set: st, Now: time.Now, TokenFile: tokens(t, goodToken, 0o600)})
	ln := listenIn(t, ns)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	t.Cleanup(func() { stop(); <-served })

	hold("203.0.113.7/32", "203.0.113.8/32", "2001:db8::7/128")
	config := filepath.Join(t.TempDir(), "bouncer.yaml")
	write(t, config, fmt.Sprintf(`mode: nftables
pid_dir: %s
update_frequency: 1s
daemonize: false
log_mode: stdout
log_level: info
api_url: http://%s/
api_key: %s
disable_ipv6: false
deny_action: DROP
supported_decisions_types: [ban]
blacklists_ipv4: crowdsec-blacklists
blacklists_ipv6: crowdsec6-blacklists
nftables:
  ipv4: {enabled: true, set-only: false, table: crowdsec, chain: crowdsec-chain}
  ipv6: {enabled: true, set-only: false, table: crowdsec6, chain: crowdsec6-chain}
prometheus: {enabled: false, listen_addr: 127.0.0.1, listen_port: 60601}
`, t.TempDir(), ln.Addr(), goodToken), 0o600)
	var log bytes.Buffer
	cmd := exec.Command("ip", "netns", "exec", ns, "crowdsec-firewall-bouncer", "-c", config)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	end := func() {
		if !stopped {
			stopped = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(end)
	await := func(what string, in, out []string) {
		t.Helper()
		sets := ""
		// The bouncer adds 50,000 one by one, and a look at them takes its time from it.
		for began, pause := time.Now(), time.Duration(0); time.Since(began) < 2*time.Minute; time.Sleep(pause) {
			look := time.Now()
			sets, _ = inside("nft", "list", "ruleset")
			ok := true
			for _, a := range in {
				ok = ok && strings.Contains(sets, a+" timeout")
			}
			for _, a := range out {
				ok = ok && !strings.Contains(sets, a+" timeout")
			}
			if ok {
				return
			}
			pause = max(100*time.Millisecond, 4*time.Since(look))
		}
		end()
		t.Fatalf("%s: want %q in and %q out of\n%s\nThe bouncer says:\n%s", what, in, out, sets, &log)
	}
	await("at its start", []string{"203.0.113.7", "203.0.113.8", "2001:db8::7"}, nil)
	hold("203.0.113.9/32")
	s.Changed(someBans)
	await("after a ban", []string{"203.0.113.7", "203.0.113.9"}, nil)
	if _, err := st.Lift(t.Context(), store.LiftRequest{Prefixes: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32")}}); err != nil {
		t.Fatal(err)
	}
	s.Changed(someBans)
	await("after an unban", []string{"203.0.113.8", "203.0.113.9"}, []string{"203.0.113.7"})

	// This bouncer's nftables mode takes a network as its first address; the one in it must not suffer.
	hold("198.51.100.0/24", "198.51.100.9/32")
	s.Changed(someBans)
	await("after a network and an address in it", []string{"198.51.100.9"}, nil)

	many := make([]string, 50_000)
	for i := range many {
		many[i] = fmt.Sprintf("20.%d.%d.%d/32", i>>16&255, i>>8&255, i&255)
	}
	hold(many...)
	s.Changed(someBans)
	await("after many bans", []string{"20.0.195.79", "203.0.113.8"}, []string{"203.0.113.7"})
}

// listenIn takes a port of a namespace's loopback address.
func listenIn(t *testing.T, ns string) net.Listener {
	t.Helper()
	type result struct {
		ln  net.Listener
		err error
	}
	got := make(chan result)
	go func() { // its thread ends with it: it is never unlocked
		runtime.LockOSThread()
		h, err := netns.GetFromName(ns)
		if err == nil {
			defer h.Close()
			err = netns.Set(h)
		}
		if err != nil {
			got <- result{nil, err}
			return
		}
		ln, err := Listen(context.Background(), "127.0.0.1:0")
		got <- result{ln, err}
	}()
	r := <-got
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.ln
}
