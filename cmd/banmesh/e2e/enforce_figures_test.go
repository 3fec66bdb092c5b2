package e2e

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// kernelNews calls f with each message of a host's kernel about its packet
// filter, until the test ends.
func (l *lab) kernelNews(host int, f func(at time.Time, data []byte)) {
	l.t.Helper()
	h, err := netns.GetFromName(l.name(host))
	if err != nil {
		l.t.Fatal(err)
	}
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(h)})
	h.Close()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := c.SetReadBuffer(64 << 20); err != nil {
		l.t.Fatal(err)
	}
	if err := c.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		l.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			messages, err := c.Receive()
			if err != nil {
				return
			}
			now := time.Now()
			for _, m := range messages {
				f(now, m.Data)
			}
		}
	}()
	l.t.Cleanup(func() { c.Close(); <-done })
}

// stranger changes a table of its own on a host every 2 s, as a fail2ban, a
// docker or a firewall does.
func (l *lab) stranger(host int) (stop func()) {
	l.t.Helper()
	l.nft(host, "table inet stranger {\n\tset s {\n\t\ttype ipv4_addr\n\t}\n}\n")
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			case <-time.After(2 * time.Second):
			}
			line := append(l.inside(host), "nft", "add", "element", "inet", "stranger", "s", fmt.Sprintf("{ 203.0.113.%d }", i%256))
			exec.Command(line[0], line[1:]...).Run()
		}
	}()
	return func() { close(end); <-done }
}

// scattered writes a file of n addresses, no two of them neighbours.
func scattered(t testing.TB, n int) string {
	t.Helper()
	var list strings.Builder
	for i := range n {
		fmt.Fprintf(&list, "%d.%d.%d.%d\n", 20+i>>23, i>>15&255, i>>7&255, i<<1&255)
	}
	file := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestFiguresBansBesideAStranger: from the start of `banmesh ban` to the kernel,
// with many in force and somebody else who changes nftables every 2 s, through
// two of the agent's minutes; and what the agent needs of a core.
func TestFiguresBansBesideAStranger(t *testing.T) {
	for _, c := range []struct {
		many           int
		p50, p99, most time.Duration
		share          float64 // of a core
	}{
		{199_000, 8 * time.Millisecond, 15 * time.Millisecond, 60 * time.Millisecond, 0.015},
		{1_000_000, 25 * time.Millisecond, 25 * time.Millisecond, time.Second, 0.1},
	} {
		t.Run(fmt.Sprint(c.many), func(t *testing.T) {
			l := newLab(t, 1)
			a := l.agent(0, settings{extra: enforced.extra + "limits: {live_per_origin: 0}\n"}).start()
			eventually(t, 10*time.Second, "the agent to enforce", func() bool { return strings.Contains(enforcing(a), "nftables on") })
			began := time.Now()
			a.must("import", scattered(t, c.many), "--for", "1d")
			imported := time.Since(began)
			eventually(t, 60*time.Second, "all in force", func() bool { return strings.Contains(enforcing(a), fmt.Sprintf("%d in force", c.many)) })
			t.Logf("%d imported in %v, in force after %v", c.many, imported.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
			began = time.Now()
			a.terminate()
			a.start()
			eventually(t, 60*time.Second, "all in force again", func() bool {
				return strings.Contains(enforcing(a), fmt.Sprintf("nftables on, %d in force", c.many))
			})
			t.Logf("restarted and in force again after %v", time.Since(began).Round(time.Millisecond))

			type sight struct {
				at   time.Time
				data []byte
			}
			sights := make(chan sight, 1000)
			l.kernelNews(0, func(at time.Time, data []byte) { sights <- sight{at, data} })
			stop := l.stranger(0)
			defer stop()
			var took []time.Duration
			cpu := cpuTime(t, a.cmd.Process.Pid)
			start := time.Now()
			for i := 0; time.Since(start) < 2*time.Minute; i++ {
				banned := netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)})
				began := time.Now()
				a.must("ban", banned.String(), "--for", "1h")
				patience := time.After(20 * time.Second)
				for seen := false; !seen; {
					select {
					case s := <-sights:
						if seen = bytes.Contains(s.data, banned.AsSlice()); seen {
							took = append(took, s.at.Sub(began))
							if took[len(took)-1] > c.p99 {
								t.Logf("a ban %v after the start took %v", began.Sub(start).Round(time.Millisecond), took[len(took)-1])
							}
						}
					case <-patience:
						t.Fatalf("%v is not in the kernel 20 s after its ban", banned)
					}
				}
				time.Sleep(500*time.Millisecond - time.Since(began)) // the pace is what is measured at
			}
			share := float64(cpuTime(t, a.cmd.Process.Pid)-cpu) / float64(time.Since(start))
			slices.Sort(took)
			p50, p99, most := took[len(took)/2], took[len(took)*99/100], took[len(took)-1]
			t.Logf("%d bans beside %d in force: p50 %v, p99 %v, at most %v; the agent needs %.1f %% of a core; an empty process %v",
				len(took), c.many, p50, p99, most, 100*share, emptyProcess(t))
			if p50 > c.p50 || p99 > c.p99 || most > c.most {
				t.Errorf("want p50 %v, p99 %v, at most %v", c.p50, c.p99, c.most)
			}
			if share > c.share {
				t.Errorf("%.1f %% of a core, want %.1f", 100*share, 100*c.share)
			}
		})
	}
}
