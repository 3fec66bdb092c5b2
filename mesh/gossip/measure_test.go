package gossip

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/internal/sim/simnet"
)

// TestALargeMesh has a mesh act as a large one does, in which a ban takes two hops.
func TestALargeMesh(t *testing.T) {
	need.Long(t)
	inALargeMesh(t, 30, 24, 10, 10)
}

// TestSoakThreeHundredMembers is the bar for a large mesh, with -measure over more bans. It takes some five minutes, which is too
// long for a figure.
func TestSoakThreeHundredMembers(t *testing.T) {
	need.Soak(t)
	calm, lossy := 20, 20
	if *measure {
		calm, lossy = 100, 1000
	}
	inALargeMesh(t, 300, 0, calm, lossy)
}

// inALargeMesh has n members at 20 ms one way, more than direct (0: the default), ban
// one after the other: as often as calm says without loss, then as often as lossy says
// at 5 %. A ban may take two hops and two packets a member; to send it to all once more
// would cost n further ones.
func inALargeMesh(t *testing.T, n, direct, calm, lossy int) {
	two := func(c *Config) { c.tuning.DirectMax = direct }
	simulateWith(t, n, simnet.Config{Seed: 5, Latency: 20 * time.Millisecond}, two, func(fl *fleet) {
		time.Sleep(30 * time.Second)
		records := 0
		one := func() time.Duration {
			records++
			fl.nodes[records*7%n].ban(fmt.Sprint("ban number ", records))
			d := fl.wait(30*time.Second, "ban everywhere", fl.all(records))
			time.Sleep(time.Second - min(time.Second, d))
			return d
		}
		// Probes, in a span as long: what they send is not the bans'.
		sent := func() float64 { return float64(fl.net.Counts().Packets) }
		before := sent()
		time.Sleep(time.Duration(calm) * time.Second)
		idle := sent() - before
		before = sent()
		var took []time.Duration
		for range calm {
			took = append(took, one())
		}
		packets := (sent() - before - idle) / float64(calm)
		slices.Sort(took)
		t.Logf("N=%d: one ban to all p50 %v, p99 %v; %.0f packets a ban", n, took[calm/2], took[calm*99/100], packets)
		if p50, p99 := took[calm/2], took[calm*99/100]; p50 > 45*time.Millisecond || p99 > 60*time.Millisecond {
			t.Errorf("p50 %v, p99 %v, want at most 45 ms and 60 ms", p50, p99)
		}
		// Each member is sent it by both relays of its slice, about two for each of √n
		// slices are the repeated heads and what they are answered.
		if most := 1.15 * 2 * (float64(n) + math.Sqrt(float64(n))); packets > most {
			t.Errorf("%.0f packets a ban, want at most %.0f", packets, most)
		}
		fl.net.Set(func(c *simnet.Config) { c.Loss = 0.05 })
		took = took[:0]
		for range lossy {
			took = append(took, one())
		}
		slices.Sort(took)
		p50, p99, worst := took[lossy/2], took[lossy*99/100], took[lossy-1]
		t.Logf("N=%d, 5 %% loss, %d runs: p50 %v, p99 %v, max %v", n, lossy, p50, p99, worst)
		// The slowest of a few says nothing about the hundredth part of many.
		if p50 > time.Second || lossy >= 100 && p99 > 3*time.Second || worst > 10*time.Second {
			t.Errorf("at 5 %% loss p50 %v, p99 %v, max %v, want at most 1 s, 3 s and 10 s", p50, p99, worst)
		}
		fl.net.Set(func(c *simnet.Config) { c.Loss = 0 })
	})
}
