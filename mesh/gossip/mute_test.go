package gossip

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// TestABanCrossesWhereUDPIsClosed: from the moment in which a firewall closes UDP
// in one direction, with TCP left open, a ban takes at most three seconds, whoever
// makes it, and the pair is warned of within ten. (In a mesh of two hops those whom
// nobody told of a mute member's ban see it at their next probe.)
func TestABanCrossesWhereUDPIsClosed(t *testing.T) {
	const warned = 10 * time.Second
	for _, c := range []struct {
		name string
		n    int
		hops int // members beyond which a ban takes two hops
		most time.Duration
		mute func(fl *fleet, from, to int) bool
	}{
		{"of two, into one", 2, 64, 3 * time.Second, func(_ *fleet, _, to int) bool { return to == 0 }},
		{"of ten, into one", 10, 64, 3 * time.Second, func(_ *fleet, _, to int) bool { return to == 0 }},
		{"of ten, out of one", 10, 64, 3 * time.Second, func(_ *fleet, from, _ int) bool { return from == 0 }},
		{"of ten, from one to another", 10, 64, 3 * time.Second, func(_ *fleet, from, to int) bool { return from == 0 && to == 1 }},
		{"of ten in two hops, into one", 10, 8, 3 * time.Second, func(_ *fleet, _, to int) bool { return to == 0 }},
		{"of ten in two hops, out of one", 10, 8, 5 * time.Second, func(_ *fleet, from, _ int) bool { return from == 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulateWith(t, c.n, lan(), func(cfg *Config) { cfg.tuning.DirectMax = c.hops }, func(fl *fleet) {
				bans := 0
				crosses := func(by int, when string) {
					t.Helper()
					fl.nodes[by].ban(fmt.Sprint("ban ", bans))
					bans++
					took := fl.wait(20*time.Second, "a ban at all", fl.all(bans))
					t.Logf("%s, by %s: %v", when, fl.nodes[by].name, took)
					if took > c.most {
						t.Errorf("%s: a ban by %s took %v to reach all, want at most %v", when, fl.nodes[by].name, took, c.most)
					}
				}
				time.Sleep(10 * time.Second)
				for i, phase := range []time.Duration{0, 370 * time.Millisecond, 710 * time.Millisecond} {
					time.Sleep(phase)
					closed := time.Now()
					for from := range fl.nodes {
						for to := range fl.nodes {
							if from != to && c.mute(fl, from, to) {
								fl.net.Mute(fl.nodes[from].addr.Addr(), fl.nodes[to].addr.Addr())
							}
						}
					}
					crosses(i%2, "the first ban")
					crosses(1-i%2, "the second ban")
					if c.n == 2 {
						fl.wait(warned, "both to say which way", func() bool {
							return fl.nodes[0].member(fl.nodes[1].name).Mute == MuteFrom && fl.nodes[1].member(fl.nodes[0].name).Mute == MuteTo
						})
						if d := time.Since(closed); d > warned {
							t.Errorf("said after %v, want at most %v", d, warned)
						}
					}
					time.Sleep(5 * time.Second)
					crosses(0, "later")
					crosses(1, "later")
					fl.net.Heal()
					fl.wait(30*time.Second, "all well again", func() bool {
						for _, nd := range fl.nodes {
							for _, m := range nd.mesh.Members() {
								if m.State != Alive || m.Mute != MuteNone {
									return false
								}
							}
						}
						return true
					})
				}
			})
		})
	}
}

// In a large mesh a few are asked what they hold after a push, also where a burst was left to the exchange.
func TestFewAreAskedAfterAPush(t *testing.T) {
	simulateWith(t, 12, lan(), func(cfg *Config) { cfg.tuning.DirectMax = 8 }, func(fl *fleet) {
		fl.nodes[0].ban("one")
		fl.wait(20*time.Second, "a ban", fl.all(1))
		time.Sleep(30 * time.Second) // all have answered a probe
		m := fl.nodes[0].mesh
		asked := func() uint32 {
			m.asks.mu.Lock()
			defer m.asks.mu.Unlock()
			return m.asks.last
		}
		for _, bulk := range []bool{false, true} {
			p, before := newPusher(m), asked()
			p.bulk, p.repeats = bulk, [2]time.Time{time.Now(), time.Now().Add(time.Minute)}
			p.repeat()
			if n, most := asked()-before, uint32(math.Sqrt(11)); n == 0 || n > most {
				t.Errorf("bulk %t: %d of 11 are asked at once, want at most %d", bulk, n, most)
			}
		}
	})
}

// Once all have answered a question after a push with the same root, nothing is said again; before that, all are told.
func TestTheHeadIsRepeatedToThoseThatHaveNotAgreed(t *testing.T) {
	simulateWith(t, 5, lan(), nil, func(fl *fleet) {
		fl.nodes[0].ban("one")
		fl.wait(20*time.Second, "a ban", fl.all(1))
		pushed := time.Now()
		m := fl.nodes[0].mesh
		repeated := func() uint64 {
			p, before := newPusher(m), m.Stats().PacketsSent
			p.pushed, p.repeats = pushed, [2]time.Time{{}, time.Now()}
			p.repeat()
			return m.Stats().PacketsSent - before
		}
		if n := repeated(); n != 4 {
			t.Errorf("before anybody has answered %d are told, want 4", n)
		}
		time.Sleep(time.Second)
		if n := repeated(); n != 0 {
			t.Errorf("%d are told, though all hold the same", n)
		}
	})
}
