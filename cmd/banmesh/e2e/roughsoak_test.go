package e2e

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"banmesh/internal/need"
)

// TestSoakRoughNetwork lets five routers have one trouble after another, two at a
// time, for as long as the soak lasts.
func TestSoakRoughNetwork(t *testing.T) {
	length := need.Soak(t)
	rng := rand.New(rand.NewPCG(need.Seed(t), 0))
	l, agents := hosts(t, 5)
	r := onRough(t, agents)
	rounds := 0
	for began := time.Now(); time.Since(began) < length; rounds++ {
		first, second := l.trouble(rng, agents), l.trouble(rng, agents)
		t.Logf("round %d: %s, %s", rounds, first.what, second.what)
		awake := []*agent{}
		for _, a := range agents {
			if a != first.asleep && a != second.asleep {
				awake = append(awake, a)
			}
		}
		first.begin()
		second.begin()
		r.work(3*time.Second+upTo(rng, 10*time.Second), awake...)
		second.end()
		first.end()
		for _, a := range agents {
			answers(t, 20*time.Second, a)
		}
		r.complete("healed", 40*time.Second)
		r.shrink(agents[rng.IntN(len(agents))])
	}
	t.Logf("%d rounds", rounds)
}

// trouble is one that may come to a network, and how it goes.
type trouble struct {
	what       string
	asleep     *agent // who cannot be asked meanwhile
	begin, end func()
}

func (l *lab) trouble(rng *rand.Rand, agents []*agent) trouble {
	h, other := rng.IntN(l.hosts), rng.IntN(l.hosts)
	// A table of its own: two troubles may meet on one host.
	table := fmt.Sprintf("inet trouble%d", rng.IntN(1<<30))
	filter := func(what, match string) trouble {
		return trouble{
			what: what,
			begin: func() {
				l.nft(h, "table "+table+" {\n\tchain in {\n\t\ttype filter hook input priority 0\n\t\t"+match+" drop\n\t}\n}\n")
			},
			end: func() { l.nft(h, "delete table "+table+"\n") },
		}
	}
	switch rng.IntN(6) {
	case 0:
		percent := 5 + rng.IntN(40)
		return filter(fmt.Sprintf("router%d loses %d %%", h+1, percent), fmt.Sprintf("iif eth0 numgen random mod 100 < %d", percent))
	case 1:
		return filter(fmt.Sprintf("router%d does not hear router%d", h+1, other+1), "ip saddr "+l.addr(other))
	case 2:
		protocol := []string{"udp", "tcp"}[rng.IntN(2)]
		return filter(fmt.Sprintf("router%d gets no %s", h+1, protocol), "iif eth0 meta l4proto "+protocol)
	case 3:
		return filter(fmt.Sprintf("router%d hears nothing", h+1), "iif eth0")
	case 4:
		return trouble{
			what: fmt.Sprintf("router%d stands still", h+1), asleep: agents[h],
			begin: func() { agents[h].cmd.Process.Signal(syscall.SIGSTOP) },
			end:   func() { agents[h].cmd.Process.Signal(syscall.SIGCONT) },
		}
	}
	return trouble{
		what: fmt.Sprintf("router%d is killed", h+1), asleep: agents[h],
		begin: func() { agents[h].kill() },
		end: func() {
			if agents[h].hasEnded() { // else the other trouble killed it as well, and it is back
				agents[h].launch()
			}
		},
	}
}

// shrink lifts most of what is banned, so that the lists stay short.
func (r *rough) shrink(a *agent) {
	r.t.Helper()
	if len(r.want) < 500 {
		return
	}
	args := []string{"unban"}
	for p := range r.want {
		if len(r.want) <= 50 {
			break
		}
		args = append(args, p)
		delete(r.want, p)
	}
	a.must(args...)
	r.complete("most of it lifted", 20*time.Second)
}
