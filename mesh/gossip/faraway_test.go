package gossip_test

import (
	"fmt"
	"testing"
	"time"

	"banmesh/internal/sim/simnet"
)

// TestFarAway: half a second one way, as over two satellites, with what else such
// a path does. With the pace of a local network the members lose sight of each
// other there again and again, and still nothing is lost and nothing unbanned.
func TestFarAway(t *testing.T) {
	seed := max(*oneSeed, 1)
	for _, c := range []struct {
		name   string
		pace   string
		change func(*simnet.Config)
		within time.Duration // from the last change until all have it
	}{
		{"500 ms, wan", "wan", func(n *simnet.Config) { n.Latency = 500 * time.Millisecond }, 30 * time.Second},
		{"500 ms, lan", "lan", func(n *simnet.Config) { n.Latency = 500 * time.Millisecond }, 30 * time.Second},
		{"500 ms with jitter and 5 % loss, wan", "wan", func(n *simnet.Config) {
			n.Latency, n.Jitter, n.Loss, n.Reorder = 500*time.Millisecond, 100*time.Millisecond, 0.05, 0.1
		}, 30 * time.Second},
		{"500 ms with jitter and 30 % loss, wan", "wan", func(n *simnet.Config) {
			n.Latency, n.Jitter, n.Loss, n.Reorder = 500*time.Millisecond, 100*time.Millisecond, 0.3, 0.1
		}, 2 * time.Minute},
		{"500 ms with jitter and 30 % loss, lan", "lan", func(n *simnet.Config) {
			n.Latency, n.Jitter, n.Loss, n.Reorder = 500*time.Millisecond, 100*time.Millisecond, 0.3, 0.1
		}, 2 * time.Minute},
	} {
		t.Run(fmt.Sprintf("%s/%d", c.name, seed), func(t *testing.T) {
			simulateWorld(t, seed, 6, calm(), func(w *world) {
				for _, a := range w.agents {
					a.stop()
					a.pace = c.pace
					a.start()
				}
				w.until(time.Minute, "all alive", w.allAlive)
				w.churn(20, 50*time.Millisecond)
				w.check(10 * time.Second)

				w.net.Set(c.change)
				w.churn(100, 200*time.Millisecond)
				took := w.check(c.within)
				// One restarts over there and has it all again, and one ban is told alone.
				a := w.agents[5]
				w.ban(a, 5, time.Hour)
				a.crash()
				w.churn(10, 200*time.Millisecond)
				a.start()
				back := w.check(c.within)
				w.ban(w.agents[0], 1, time.Hour)
				one := w.check(c.within)
				t.Logf("equal roots %v after the last change, %v after a restart, %v after a single ban", took, back, one)

				w.net.Set(func(n *simnet.Config) { *n = simnet.Config{Seed: n.Seed, Latency: 20 * time.Millisecond} })
				w.until(time.Minute, "all alive afterwards", w.allAlive)
				w.check(10 * time.Second)
			})
		})
	}
}
