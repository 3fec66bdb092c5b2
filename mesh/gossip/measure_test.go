package gossip

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/internal/sim/simnet"
)

// TestThreeHundredMembers measures what a large mesh does at 20 ms one way:
// 300 members with -measure, fewer without.
func TestThreeHundredMembers(t *testing.T) {
	need.Long(t)
	n, calm, lossy := 70, 20, 20
	if *measure {
		n, calm, lossy = 300, 100, 1000
	}
	if Raced {
		calm, lossy = 5, 5
	}
	simulate(t, n, simnet.Config{Seed: 5, Latency: 20 * time.Millisecond}, func(fl *fleet) {
		time.Sleep(30 * time.Second)
		records := 0
		one := func(pause time.Duration) time.Duration {
			records++
			fl.nodes[records*7%n].ban(fmt.Sprint("ban number ", records))
			d := fl.wait(30*time.Second, "ban everywhere", fl.all(records))
			time.Sleep(pause - min(pause, d))
			return d
		}
		idleFrom := fl.net.Counts()
		time.Sleep(20 * time.Second)
		idle := float64(fl.net.Counts().Packets-idleFrom.Packets) / 20
		before := fl.net.Counts()
		began := time.Now()
		var took []time.Duration
		for range calm {
			took = append(took, one(2*time.Second))
		}
		packets := (float64(fl.net.Counts().Packets-before.Packets) - idle*time.Since(began).Seconds()) / float64(calm)
		slices.Sort(took)
		t.Logf("N=%d: one ban to all p50 %v, p99 %v; %.0f packets a ban", n, took[calm/2], took[calm*99/100], packets)
		if p50, p99 := took[calm/2], took[calm*99/100]; p50 > 45*time.Millisecond || p99 > 60*time.Millisecond {
			t.Errorf("p50 %v, p99 %v, want at most 45 ms and 60 ms", p50, p99)
		}
		most := float64(n) * 700 / 300
		if Raced {
			most *= 1.1 // so few bans scatter with what else is sent meanwhile
		}
		if packets > most {
			t.Errorf("%.0f packets a ban, want at most %.0f", packets, most)
		}
		fl.net.Set(func(c *simnet.Config) { c.Loss = 0.05 })
		took = took[:0]
		for range lossy {
			took = append(took, one(time.Second))
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
