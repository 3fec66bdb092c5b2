package e2e

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/mesh/control"
)

// TestFiguresRotatingAttacker: one router is attacked from ten million addresses
// and bans each; it and the others stay within their bounds, and say so.
func TestFiguresRotatingAttacker(t *testing.T) { rotate(t, 24*time.Hour, 0) }

// TestSoakRotatingAttacker is the same with bans that end while the attack goes
// on, so that others take their place below the limit all the time.
func TestSoakRotatingAttacker(t *testing.T) {
	need.Soak(t)
	rotate(t, 20*time.Second, 500*time.Millisecond)
}

const (
	rotateAddresses = 10_000_000
	rotateBatch     = 50_000 // in one call
	// rotateLimit and rotateKept are limits.live_per_origin and what is kept of one
	// origin at most, as they are by default.
	rotateLimit = 200_000
	rotateKept  = 1_000_000
	// rotateMemory bounds either agent: a million records and a batch under way.
	rotateMemory = 512 << 20
)

// rotate has each ban last for life, and leaves a pause between two calls.
func rotate(t *testing.T, life, pause time.Duration) {
	agents := fleet(t, 3, settings{extra: "log: {level: error}\n"})
	victim, other, third := agents[0], agents[1], agents[2]
	other.must("ban", "192.0.2.1", "--for", "1d")
	eventually(t, 5*time.Second, "the first ban at "+third.name, func() bool { return third.banned("192.0.2.1/32") != nil })

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		floodFrom(t, ctx, victim, life, pause)
	})
	// Meanwhile the others' bans travel as ever.
	var took []time.Duration
	most := 0
	began := time.Now()
	for n, running := 0, true; running; n++ {
		select {
		case <-done:
			running = false
		case <-time.After(500 * time.Millisecond):
		}
		took = append(took, travels(t, other, third, n))
		for _, a := range agents {
			rss := 1024 * statusKB(t, a.cmd.Process.Pid, "RssAnon")
			if most = max(most, rss); rss > rotateMemory {
				t.Errorf("%s takes %d MB of anonymous memory", a.name, rss>>20)
			}
		}
	}
	t.Logf("%d addresses in %v; at most %d MB of anonymous memory", rotateAddresses, time.Since(began).Round(time.Second), most>>20)
	slices.Sort(took)
	t.Logf("another router's ban at a third during it: %s", percentiles(took))
	if p := took[len(took)*9/10]; p > loadLatency {
		t.Errorf("the slowest tenth of the others' bans took %v or more, want %v", p, loadLatency)
	}

	ended := time.Now()
	oneRoot(t, 60*time.Second, agents)
	t.Logf("equal roots %v after it", time.Since(ended).Round(10*time.Millisecond))
	for _, a := range agents {
		s, err := asked(t, a)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %+v; %q", a.name, s.Bans, s.Warnings)
		own := len(took) + 1
		if s.Bans.Effective > rotateLimit+own {
			t.Errorf("%s holds %d bans effective, want at most %d of one router and %d", a.name, s.Bans.Effective, rotateLimit, own)
		}
		if s.Bans.Live > rotateKept+own {
			t.Errorf("%s keeps %d bans, want at most %d of one router and %d", a.name, s.Bans.Live, rotateKept, own)
		}
		says := func(w string) bool { return strings.Contains(w, victim.name) && strings.Contains(w, "do not count") }
		if life > time.Hour && (s.Bans.OverLimit < rotateLimit || !slices.ContainsFunc(s.Warnings, says)) {
			t.Errorf("%s does not say that %s is over its limits: %+v, %q", a.name, victim.name, s.Bans, s.Warnings)
		}
		full := func(w string) bool {
			return strings.Contains(w, victim.name) && strings.Contains(w, "limits.stored_per_origin")
		}
		if !slices.ContainsFunc(s.Warnings, full) {
			t.Errorf("%s does not say that no more of %s is kept: %q", a.name, victim.name, s.Warnings)
		}
		if !lists(t, control.NewClient(a.socket), pfx("192.0.2.1/32")) {
			t.Errorf("%s has lost the ban of before the attack", a.name)
		}
	}
}

// floodFrom has one router ban the attacker's addresses, each once.
func floodFrom(t *testing.T, ctx context.Context, a *agent, life, pause time.Duration) {
	client := control.NewClient(a.socket)
	batch := make(control.Prefixes, rotateBatch)
	refused := 0
	for from := 0; from < rotateAddresses && ctx.Err() == nil; from += rotateBatch {
		time.Sleep(pause)
		for i := range batch {
			v := uint32(20<<24 + from + i)
			batch[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), 32)
		}
		now := time.Now()
		call, cancel := context.WithTimeout(ctx, 30*time.Second)
		_, err := client.Ban(call, control.BanCall{Prefixes: batch, Jail: "sshd", Start: control.At(now), Until: control.UntilAt(now.Add(life)), Failures: 5})
		cancel()
		var e *control.Error
		switch {
		case errors.As(err, &e) && e.Code == control.CodeConflict:
			refused++ // it holds as many records as it may
		case err != nil && ctx.Err() == nil:
			t.Errorf("ban at %s: %v", a.name, err)
			return
		}
	}
	t.Logf("%d of %d calls were refused in part or whole", refused, rotateAddresses/rotateBatch)
}

// travels is how long a new ban at one agent takes to another.
func travels(t *testing.T, from, to *agent, n int) time.Duration {
	t.Helper()
	p := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)}), 32)
	began := time.Now()
	from.must("ban", p.String(), "--for", "1d")
	client := control.NewClient(to.socket)
	eventually(t, 20*time.Second, p.String()+" at "+to.name, func() bool { return lists(t, client, p) })
	return time.Since(began)
}
