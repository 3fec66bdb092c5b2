// Package bench measures a mesh of agents' stores and gossip in one process, on
// loopback with real, encrypted UDP and TCP: how fast bans travel, what they
// cost, how soon a healed partition agrees, what a million of them weigh.
package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"time"
)

// Options say how much is measured.
type Options struct {
	Agents   int               // 2 to 200
	Bans     int               // of the bursts and of both sides of the partition together
	Progress func(what string) // told of each step; may be nil
}

// Limits of Options.
const (
	minAgents, maxAgents = 2, 200
	minBans, maxBans     = 100, 1_000_000
)

// Validate names the option that cannot be used.
func (o Options) Validate() error {
	if o.Agents < minAgents || o.Agents > maxAgents {
		return fmt.Errorf("agents %d: want %d to %d", o.Agents, minAgents, maxAgents)
	}
	if o.Bans < minBans || o.Bans > maxBans {
		return fmt.Errorf("bans %d: want %d to %d", o.Bans, minBans, maxBans)
	}
	return nil
}

// Report is what was measured. Times are milliseconds.
type Report struct {
	Agents int `json:"agents"`
	Bans   int `json:"bans"`

	// One ban at one agent until it is visible on all.
	SingleP50 float64 `json:"single_p50_ms"`
	SingleP99 float64 `json:"single_p99_ms"`
	SingleMax float64 `json:"single_max_ms"`

	// What one ban costs the whole mesh, idle traffic of that time included.
	PacketsPerBan float64 `json:"packets_per_ban"`
	BytesPerBan   float64 `json:"bytes_per_ban"`

	BurstOneAgent float64 `json:"burst_one_agent_ms"` // all Bans at one agent until they are on all
	BurstSpread   float64 `json:"burst_spread_ms"`    // all Bans spread over the agents until they are on all
	Heal          float64 `json:"heal_ms"`            // from the first contact of two halves with Bans/2 each until all roots are equal

	MemoryPerMillion float64 `json:"memory_per_million_mb"` // anonymous memory of one agent's set, from MemoryBans bans
	MemoryBans       int     `json:"memory_bans"`
	Restart          float64 `json:"restart_ms"` // opening the store that holds them
}

// singles is how many single bans are measured, idle the pause between two.
const (
	singles = 200
	idle    = 10 * time.Millisecond
)

// Run measures. It leaves nothing behind.
func Run(ctx context.Context, o Options) (_ Report, err error) {
	if err := o.Validate(); err != nil {
		return Report{}, err
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	dir, err := os.MkdirTemp("", "banmesh-bench-")
	if err != nil {
		return Report{}, err
	}
	defer os.RemoveAll(dir)
	r := Report{Agents: o.Agents, Bans: o.Bans}
	b := &bench{options: o, dir: dir, report: &r}
	for _, step := range []func(context.Context) error{b.memory, b.travel, b.heal} {
		if err := step(ctx); err != nil {
			return r, err
		}
	}
	return r, nil
}

type bench struct {
	options Options
	dir     string
	report  *Report
	given   uint32 // addresses used so far
}

// next are n addresses that were not used yet, of the range for benchmarks
// (RFC 2544) and, when that is used up, of all unicast space above it.
func (b *bench) next(n int) []netip.Prefix {
	out := make([]netip.Prefix, n)
	for i := range out {
		v := uint32(198)<<24 | 18<<16 + b.given
		out[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), 32)
		b.given++
	}
	return out
}

// travel measures single bans and bursts on one mesh.
func (b *bench) travel(ctx context.Context) error {
	b.options.Progress(fmt.Sprintf("starting %d agents", b.options.Agents))
	f, err := newFleet(ctx, b.dir, "m", b.options.Agents)
	if err != nil {
		return err
	}
	defer f.close()
	if err := f.meet(ctx, b.options.Agents); err != nil {
		return err
	}
	if err := f.agree(ctx); err != nil {
		return err
	}
	b.options.Progress(fmt.Sprintf("%d single bans", singles))
	before := f.traffic()
	took := make([]float64, singles)
	for i := range took {
		if took[i], err = b.burst(ctx, f, 1, f.agents[rand.IntN(len(f.agents))]); err != nil {
			return err
		}
		if err := pause(ctx, idle); err != nil {
			return err
		}
	}
	after := f.traffic()
	slices.Sort(took)
	b.report.SingleP50, b.report.SingleP99, b.report.SingleMax = took[singles/2], took[singles*99/100], took[singles-1]
	b.report.PacketsPerBan = float64(after.packets-before.packets) / singles
	b.report.BytesPerBan = float64(after.bytes-before.bytes) / singles

	b.options.Progress(fmt.Sprintf("%d bans at one agent", b.options.Bans))
	if b.report.BurstOneAgent, err = b.burst(ctx, f, b.options.Bans, f.agents[0]); err != nil {
		return err
	}
	b.options.Progress(fmt.Sprintf("%d bans spread over all agents", b.options.Bans))
	b.report.BurstSpread, err = b.burst(ctx, f, b.options.Bans, f.agents...)
	return err
}

// burst gives n bans, shared among the agents at, and returns the milliseconds
// until all agents show them all.
func (b *bench) burst(ctx context.Context, f *fleet, n int, at ...*agent) (float64, error) {
	prefixes := b.next(n)
	want := f.bans + n
	f.bans = want
	began := time.Now()
	failed := make(chan error, len(at))
	for i, a := range at {
		part := prefixes[i*n/len(at) : (i+1)*n/len(at)]
		go func() { failed <- a.ban(ctx, part) }()
	}
	var errs []error
	for range at {
		errs = append(errs, <-failed)
	}
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	for _, a := range f.agents {
		if err := a.await(ctx, func() bool { return a.set.Counts().Live >= want }); err != nil {
			return 0, fmt.Errorf("%s has %d of %d bans: %w", a.name, a.set.Counts().Live, want, err)
		}
	}
	return millis(time.Since(began)), nil
}

// heal measures how soon two halves that have never met agree: to the agents a
// partition that outlasted their patience is the same.
func (b *bench) heal(ctx context.Context) error {
	b.options.Progress(fmt.Sprintf("two halves with %d bans each", b.options.Bans/2))
	half := b.options.Agents / 2
	left, err := newFleet(ctx, b.dir, "l", half)
	if err != nil {
		return err
	}
	defer left.close()
	right, err := newFleet(ctx, b.dir, "r", b.options.Agents-half)
	if err != nil {
		return err
	}
	defer right.close()
	for _, f := range []*fleet{left, right} {
		if err := f.meet(ctx, len(f.agents)); err != nil {
			return err
		}
		if _, err := b.burst(ctx, f, b.options.Bans/2, f.agents[0]); err != nil {
			return err
		}
	}
	b.options.Progress("healing")
	began := time.Now()
	if _, err := left.agents[0].mesh.Join(ctx, []string{right.agents[0].mesh.Addr()}); err != nil {
		return fmt.Errorf("join the halves: %w", err)
	}
	whole := &fleet{agents: slices.Concat(left.agents, right.agents)}
	if err := whole.agree(ctx); err != nil {
		return err
	}
	b.report.Heal = millis(time.Since(began))
	return nil
}

func millis(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
