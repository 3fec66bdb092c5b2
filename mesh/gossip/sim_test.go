package gossip_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/internal/sim/simnet"
	"banmesh/mesh/gossip"
	"banmesh/store"
)

var oneSeed = flag.Uint64("seed", 0, "run the simulations with this seed alone")

// lossy is a network at its worst that still works.
func lossy() simnet.Config {
	return simnet.Config{Latency: 20 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.05, Duplicate: 0.02, Reorder: 0.1}
}

func calm() simnet.Config { return simnet.Config{Latency: 20 * time.Millisecond} }

// scenario is one history; every one ends in a check.
type scenario struct {
	name string
	n    int
	net  simnet.Config
	run  func(*world)
}

// large is the size from which on a ban takes two hops in these simulations: what a
// large mesh costs grows with its square. TestFiguresALargeMesh has one of full size.
const large = 24

var scenarios = []scenario{
	{"ban and lift everywhere at 5 % loss", 20, lossy(), func(w *world) {
		w.churn(150, 50*time.Millisecond)
		w.check(20 * time.Second)
	}},
	{"a large mesh at 5 % loss", large, lossy(), churnAtLarge},
	{"partition of ten minutes with bans on both sides", 10, lossy(), func(w *world) {
		w.churn(20, 50*time.Millisecond)
		a, b := w.halves()
		w.net.Partition(a, b)
		for range 10 {
			w.churn(5, 100*time.Millisecond)
			time.Sleep(time.Minute)
		}
		w.net.Heal()
		w.until(30*time.Second, "all alive again", w.allAlive)
		w.check(20 * time.Second)
	}},
	{"one-way cuts", 10, calm(), func(w *world) {
		for range 5 {
			from, to := w.some(), w.some()
			w.net.Cut(from.addr.Addr(), to.addr.Addr())
			w.churn(20, 200*time.Millisecond)
		}
		w.check(time.Minute) // still cut: the others pass it on
		w.net.Heal()
		w.churn(5, time.Millisecond)
		w.check(30 * time.Second)
	}},
	{"crash and restart with disk", 8, lossy(), func(w *world) {
		for range 6 {
			w.churn(15, 50*time.Millisecond)
			a := w.some()
			w.ban(a, 20, time.Hour) // acknowledged, and perhaps told to nobody
			a.crash()
			w.churn(10, time.Duration(w.rng.IntN(2))*time.Second)
			a.start()
		}
		w.until(2*time.Minute, "all alive again", w.allAlive)
		w.check(30 * time.Second)
	}},
	{"a wiped store", 6, calm(), func(w *world) {
		w.churn(40, 20*time.Millisecond)
		w.check(10 * time.Second)
		a := w.some()
		a.crash()
		a.restore(nil)
		w.churn(10, 20*time.Millisecond)
		a.start()
		w.ban(a, 10, time.Hour) // before it has anything back
		w.check(30 * time.Second)
	}},
	{"an old store put back", 6, calm(), func(w *world) {
		w.churn(40, 20*time.Millisecond)
		w.check(10 * time.Second)
		a := w.some()
		old := a.snapshot()
		w.churn(40, 20*time.Millisecond)
		w.ban(a, 10, time.Hour)
		w.check(10 * time.Second)
		a.crash()
		a.restore(old)
		w.churn(10, 20*time.Millisecond)
		a.start()
		w.ban(a, 10, time.Hour)
		w.check(30 * time.Second)
	}},
	{"a cloned machine", 6, calm(), func(w *world) {
		w.churn(40, 20*time.Millisecond)
		a := w.some()
		disk := a.snapshot()
		clone := w.add("clone")
		clone.restore(disk)
		clone.start()
		w.until(time.Minute, "the clone is in", w.allAlive)
		w.ban(a, 10, time.Hour)
		w.ban(clone, 10, time.Hour)
		w.churn(20, 20*time.Millisecond)
		w.check(30 * time.Second)

		twin := w.add(clone.name)
		twin.path += ".twin"
		if err := twin.tryStart(); !errors.Is(err, gossip.ErrNameTaken) || !strings.Contains(fmt.Sprint(err), clone.addr.String()) {
			w.t.Errorf("a clone that kept its name started: %v", err)
		}
		w.check(30 * time.Second)
	}},
	{"a clock that jumps an hour or a year and back", 6, calm(), func(w *world) {
		for _, jump := range []time.Duration{time.Hour, -time.Hour, 365 * 24 * time.Hour, -365 * 24 * time.Hour} {
			w.churn(20, 20*time.Millisecond)
			a := w.some()
			a.offset.Store(int64(jump))
			time.Sleep(90 * time.Second) // its skew is measured, expiry and forgetting have their chance
			w.ban(w.agents[0], 5, 3*time.Hour)
			if jump.Abs() <= time.Hour {
				w.ban(a, 5, 3*time.Hour)
			}
			a.offset.Store(0)
			time.Sleep(90 * time.Second)
			w.check(30 * time.Second)
		}
	}},
	{"expiry and forgetting", 3, calm(), func(w *world) {
		w.churn(40, 20*time.Millisecond)
		w.ban(w.some(), 5, 10*time.Hour)
		for range 8 {
			time.Sleep(30 * time.Minute)
			w.ban(w.some(), 1, time.Minute)
			w.check(30 * time.Second)
		}
		for _, a := range w.agents {
			if c := a.store.Counts(); c.Records > 40 {
				w.t.Errorf("%s still keeps %d records hours after their end", a.name, c.Records)
			}
		}
	}},
	{"leave and join", 6, lossy(), func(w *world) {
		for range 4 {
			w.churn(15, 50*time.Millisecond)
			a := w.some()
			w.ban(a, 3, time.Hour)
			time.Sleep(2 * time.Second)
			a.leave()
			w.churn(15, 50*time.Millisecond)
			w.check(30 * time.Second) // its bans stay
			a.start()
			w.until(time.Minute, "all alive again", w.allAlive)
		}
		w.check(30 * time.Second)
	}},
	{"everything at once", 12, lossy(), func(w *world) {
		for range 8 {
			w.churn(10, 100*time.Millisecond)
			switch w.rng.IntN(4) {
			case 0:
				a, b := w.halves()
				w.net.Partition(a, b)
				w.churn(10, time.Second)
				w.net.Heal()
			case 1:
				if a := w.some(); len(w.running()) > 6 {
					a.crash()
				}
			case 2:
				if a := w.some(); len(w.running()) > 6 {
					time.Sleep(2 * time.Second)
					a.leave()
				}
			case 3:
				for _, a := range w.agents {
					if !a.running() {
						a.start()
					}
				}
			}
		}
		w.net.Heal()
		for _, a := range w.agents {
			if !a.running() {
				a.start()
			}
		}
		w.until(3*time.Minute, "all alive again", w.allAlive)
		w.check(30 * time.Second)
	}},
}

func TestSimulation(t *testing.T) {
	need.Long(t)
	seeds := []uint64{1, 2}
	if *oneSeed != 0 {
		seeds = []uint64{*oneSeed}
	}
	for _, s := range scenarios {
		for i, seed := range seeds {
			if i > 0 && gossip.Raced {
				continue // one is slow enough
			}
			t.Run(fmt.Sprintf("%s/%d", s.name, seed), func(t *testing.T) {
				simulateWorld(t, seed, s.n, s.net, s.run)
			})
		}
	}
}

func churnAtLarge(w *world) {
	w.churn(40, 200*time.Millisecond)
	w.check(20 * time.Second)
}

// TestFiguresALargeMesh is the scenario of that name at the size of a large mesh.
func TestFiguresALargeMesh(t *testing.T) {
	simulateWorld(t, max(*oneSeed, 1), 100, lossy(), churnAtLarge)
}

// TestTheMeshHealsSoonAfterFirstContact is the bar for a partition: with 10,000
// bans on each side, equal roots at most 5 s after the sides met.
func TestTheMeshHealsSoonAfterFirstContact(t *testing.T) {
	seed := max(*oneSeed, 1)
	n, bans := 20, 200
	if gossip.Raced {
		n, bans = 8, 20
	}
	simulateWorld(t, seed, n, calm(), func(w *world) {
		a, b := w.halves()
		w.net.Partition(a, b)
		time.Sleep(time.Minute)
		for range 50 {
			w.ban(w.agents[w.rng.IntN(n/2)], bans, time.Hour)
			w.ban(w.agents[n/2+w.rng.IntN(n/2)], bans, time.Hour)
			time.Sleep(10 * time.Second)
		}
		w.net.Heal()
		contact := w.until(time.Minute, "first contact", func() bool {
			for i, x := range w.agents {
				for _, m := range x.mesh.Load().Members() {
					if m.State == gossip.Alive && (m.Name >= w.agents[n/2].name) != (i >= n/2) {
						return true
					}
				}
			}
			return false
		})
		took := w.check(time.Minute)
		w.t.Logf("10 minutes of partition, %d bans a side, %d members: first contact after %v, equal roots %v after that", 50*bans, n, contact, took)
		if took > 5*time.Second {
			w.t.Errorf("took %v, want at most 5s", took)
		}
	})
}

// TestSoak runs the scenarios with random seeds, and up to 300 members, for as
// long as BANMESH_SOAK says. A seed that fails is run again with -seed.
func TestSoak(t *testing.T) {
	length := need.Soak(t)
	for i, began := 0, time.Now(); time.Since(began) < length; i++ {
		seed := rand.Uint64()
		if *oneSeed != 0 {
			seed = *oneSeed
		}
		s := scenarios[i%len(scenarios)]
		n := []int{s.n, 50, 300}[i/len(scenarios)%3]
		if !t.Run(fmt.Sprintf("%s/%d members/%d", s.name, n, seed), func(t *testing.T) { simulateWorld(t, seed, n, s.net, s.run) }) {
			t.Fatalf("failed with seed %d", seed)
		}
	}
}

var _ gossip.Set = (*store.Store)(nil)
