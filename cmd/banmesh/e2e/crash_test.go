package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/mesh/control"
)

const crashJail = "sshd"

// crashUntil is an end far beyond the longest run.
func crashUntil(start control.Time) control.Until {
	return control.UntilAt(start.Time().Add(24 * time.Hour))
}

// crash is three agents that are killed again and again while people ban and
// unban, and what those were told.
type crash struct {
	t      *testing.T
	rng    *rand.Rand
	agents []*agent
	ledger *ledger
	pause  time.Duration // between two calls of one writer

	gate    sync.RWMutex // held for reading during each call, for writing while all are compared
	failed  chan error   // the first thing a writer found wrong
	kills   int
	longest time.Duration // that an agent took from its start until it answered
}

// TestAgentsAreKilledAtRandomMoments: fifty times SIGKILL, and after each the
// agent has what it acknowledged; every ten, all three have what anybody did.
func TestAgentsAreKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	crashes(t, 8*time.Millisecond, func(round int) bool { return round < 50 })
}

// TestSoakCrash is the same a thousand times, and for as long as the soak lasts.
func TestSoakCrash(t *testing.T) {
	length := need.Soak(t)
	began := time.Now()
	crashes(t, 30*time.Millisecond, func(round int) bool { return round < 1000 || time.Since(began) < length })
}

func crashes(t *testing.T, pause time.Duration, more func(round int) bool) {
	s := need.Seed(t)
	c := &crash{
		t: t, rng: rand.New(rand.NewPCG(s, 0)), ledger: newLedger(), pause: pause, failed: make(chan error, 1),
		agents: trio(t, settings{extra: "log: {level: error}\nlimits: {lifts_per_minute_per_origin: 100000}\n"}),
	}
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	defer writers.Wait()
	defer stop()
	for i, a := range c.agents {
		writers.Go(func() { c.write(ctx, a, rand.New(rand.NewPCG(s, uint64(i+1)))) })
	}
	writers.Go(func() { c.command(ctx, rand.New(rand.NewPCG(s, 9))) })

	began, round := time.Now(), 0
	for ; more(round); round++ {
		c.round(round)
		if round%10 == 9 {
			c.compare(round)
		}
		if round%100 == 99 {
			c.report(round+1, began)
		}
	}
	c.compare(round)
	c.report(round, began)
}

func (c *crash) report(rounds int, began time.Time) {
	l := c.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	c.t.Logf("%d rounds in %v: %d kills; %d bans and %d unbans acknowledged, %d of them by the spool, %d without an answer; slowest start %v",
		rounds, time.Since(began).Round(time.Second), c.kills, l.bans, l.lifts, l.spools, l.unknown, c.longest.Round(time.Millisecond))
}

// round kills one agent, or all, at a moment that chance picks, also while it
// starts again, and looks what it has on its disk.
func (c *crash) round(round int) {
	c.t.Helper()
	victims := []*agent{c.agents[c.rng.IntN(len(c.agents))]}
	if c.rng.IntN(8) == 0 {
		victims = c.agents
	}
	time.Sleep(upTo(c.rng, 400*time.Millisecond))
	own := make([]map[netip.Prefix]fate, len(victims))
	c.strike(victims)
	if c.rng.IntN(2) == 0 {
		time.Sleep(upTo(c.rng, 200*time.Millisecond)) // the others go on without it
	}
	for i, a := range victims {
		own[i] = c.ledger.of(a.name)
		a.launch()
	}
	if c.rng.IntN(5) == 0 {
		time.Sleep(upTo(c.rng, 60*time.Millisecond)) // in the middle of its start
		c.strike(victims)
		for _, a := range victims {
			a.launch()
		}
	}
	for i, a := range victims {
		c.awaitAnswer(a)
		if wrong := c.ledger.judgeOwn(own[i], c.list(a)); len(wrong) > 0 {
			c.t.Fatalf("round %d, %s after its restart: %s", round, a.name, few(wrong))
		}
		c.replay(a)
	}
	select {
	case err := <-c.failed:
		c.t.Fatalf("round %d: %v", round, err)
	default:
	}
}

func (c *crash) strike(victims []*agent) {
	for _, a := range victims {
		a.cmd.Process.Kill()
		c.kills++
	}
	for _, a := range victims {
		<-a.ended
	}
}

// awaitAnswer fails where the agent refuses to start, as with a store that does
// not open.
func (c *crash) awaitAnswer(a *agent) {
	c.t.Helper()
	began := time.Now()
	eventually(c.t, 30*time.Second, a.name+" to answer", func() bool {
		if a.hasEnded() {
			c.t.Fatalf("%s ended at its start:\n%s", a.name, a.readLog())
		}
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		defer cancel()
		_, err := control.NewClient(a.socket).Status(ctx)
		return err == nil
	})
	c.longest = max(c.longest, time.Since(began))
}

// replay has fail2ban come back with the router, and ban again what it finds in
// its database: what was lifted stays lifted.
func (c *crash) replay(a *agent) {
	c.t.Helper()
	for _, call := range c.ledger.replay(a.name, 3) {
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		r, err := control.NewClient(a.socket).Ban(ctx, call)
		cancel()
		if err != nil {
			c.t.Fatalf("replay of %v at %s: %v", call.Prefixes, a.name, err)
		}
		if r.New > 0 || r.Extended > 0 {
			c.t.Fatalf("a replay of %v, which was lifted, is a new ban at %s: %+v", call.Prefixes, a.name, r)
		}
	}
}

// compare waits until the three agree, while nobody calls, and holds each against
// all that was promised.
func (c *crash) compare(round int) {
	c.t.Helper()
	c.gate.Lock()
	defer c.gate.Unlock()
	var wrong []string
	var list map[netip.Prefix]control.Ban
	deadline := time.Now().Add(30 * time.Second)
	for waits := true; waits; {
		eventually(c.t, time.Until(deadline), "the three to agree", c.agree)
		for _, a := range c.agents {
			list = c.list(a)
			wrong, waits = c.ledger.judge(list)
			if len(wrong) == 0 {
				continue
			}
			for i := range wrong {
				wrong[i] = a.name + ": " + wrong[i]
			}
			break
		}
		waits = waits && time.Now().Before(deadline)
	}
	if len(wrong) > 0 {
		c.t.Fatalf("after round %d: %s", round, few(wrong))
	}
	c.ledger.agreed(list)
}

// agree says whether all have the same set and no call waits in a spool.
func (c *crash) agree() bool {
	roots := make(map[string]bool)
	for _, a := range c.agents {
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		s, err := control.NewClient(a.socket).Status(ctx)
		cancel()
		if err != nil || s.Spooled > 0 || s.Members.Alive != len(c.agents) {
			return false
		}
		roots[s.Root] = true
	}
	return len(roots) == 1
}

func (c *crash) list(a *agent) map[netip.Prefix]control.Ban {
	c.t.Helper()
	out := make(map[netip.Prefix]control.Ban)
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	err := control.NewClient(a.socket).List(ctx, control.ListQuery{}, func(b control.Ban) error {
		p, err := netip.ParsePrefix(b.Prefix)
		out[p] = b
		return err
	})
	if err != nil {
		c.t.Fatalf("list at %s: %v", a.name, err)
	}
	return out
}

// few shortens a long list of what is wrong.
func few(wrong []string) string {
	slices.Sort(wrong)
	if n := len(wrong); n > 5 {
		wrong = append(wrong[:5:5], fmt.Sprintf("and %d more", n-5))
	}
	return strings.Join(wrong, "; ")
}

func (c *crash) wrong(format string, args ...any) {
	select {
	case c.failed <- fmt.Errorf(format, args...):
	default:
	}
}
