package mesh

import (
	"context"
	"fmt"
	"sync"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/enforce"
	"banmesh/mesh/enforce/feed"
	"banmesh/mesh/fail2ban"
	"banmesh/store"
)

// enforcer makes the mesh's bans take effect on this router. One that cannot
// says so in its Status; the agent goes on without it.
type enforcer interface {
	Run(ctx context.Context) error
	Changed(c store.Change)           // told of every change, in order; does not block
	Remove(ctx context.Context) error // after Run: takes everything off this router
	Status() enforce.Status
}

// openFeed makes the feeder of the jail that enforce.jail names, where
// enforce.driver is fail2ban. The hooks need it: what happens in that jail is
// not this router's own.
func (a *Agent) openFeed() (fail2ban.Feed, error) {
	if a.cfg.Enforce.Driver != "fail2ban" {
		return nil, nil
	}
	feeder, err := feed.New(feed.Config{
		Set: a.store, Client: a.client, Jail: a.cfg.Enforce.Jail, Limit: a.cfg.Enforce.Limit,
		Settled: func() bool { return a.mesh.Settled() }, Now: a.clock.local, Logger: a.log,
	})
	if err != nil {
		return nil, fmt.Errorf("enforce.driver fail2ban: %w", err)
	}
	a.enforcer = feeder
	return feeder, nil
}

// openNFTables makes what drops in the kernel, where enforce.driver is nftables.
func (a *Agent) openNFTables() error {
	if a.cfg.Enforce.Driver != "nftables" {
		return nil
	}
	driver, err := a.doors.Kernel(a.cfg.Enforce.NetNS, a.cfg.Enforce.Ingress)
	if err != nil {
		return fmt.Errorf("enforce.driver nftables: %w", err)
	}
	a.enforcer = enforce.New(enforce.Config{
		Set: a.store, Driver: driver, Settled: func() bool { return a.mesh.Settled() }, Now: a.clock.now, Random: a.doors.Random, Logger: a.log,
	})
	return nil
}

// enforceStatus is how enforcement fares; nil where there is none.
func (a *Agent) enforceStatus() *control.Enforcement {
	if a.enforcer == nil {
		return nil
	}
	s := a.enforcer.Status()
	e := &control.Enforcement{
		Driver: s.Driver, State: string(s.State), Detail: s.Detail, Caveat: s.Caveat, InForce: s.Elements,
		Dropped: s.Dropped.Packets, DroppedBytes: s.Dropped.Bytes, BehindMS: s.BehindFor.Milliseconds(),
	}
	if s.Behind != enforce.Unknown {
		e.Behind = &s.Behind
	}
	return e
}

// tooFarBehind is how long a change may wait for the router before that is a
// warning: some hundred times what it takes with a million in force.
const tooFarBehind = 10 * time.Second

// enforceWarnings says what keeps bans from taking effect here.
func enforceWarnings(e *control.Enforcement) []string {
	if e == nil {
		return nil
	}
	switch enforce.State(e.State) {
	case enforce.Failing, enforce.Limited:
		return []string{fmt.Sprintf("enforcement by %s: %s", e.Driver, e.Detail)}
	}
	if behind := time.Duration(e.BehindMS) * time.Millisecond; behind > tooFarBehind {
		return []string{fmt.Sprintf("enforcement by %s: changes have waited for %v to be in force", e.Driver, behind.Round(time.Second))}
	}
	return nil
}

// taken takes the bans off this router, after what enforces them has ended: it would
// put them back.
type taken struct {
	end, ended chan struct{}

	mu   sync.Mutex
	told bool // end is closed
	off  bool // nothing is left to take off
}

func newTaken() *taken { return &taken{end: make(chan struct{}), ended: make(chan struct{})} }

// run enforces until ctx ends or the bans are taken off.
func (t *taken) run(ctx context.Context, enforce func(context.Context) error) error {
	defer close(t.ended)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-t.end:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := enforce(ctx); ctx.Err() == nil {
		return err
	}
	return nil
}

// stopEnforcing takes the bans off this router where it leaves the mesh for
// good: nobody would end them any more. A restart and a crash keep them. What
// failed is tried again by the next call.
func (a *Agent) stopEnforcing(ctx context.Context) error {
	if a.enforcer == nil || !a.left.Load() {
		return nil
	}
	if err := a.taken.takeOff(ctx, a.enforcer.Remove); err != nil {
		a.log.Error("take the bans off this router", "driver", a.cfg.Enforce.Driver, "error", err)
		return fmt.Errorf("the bans stay on this router, and nobody ends them any more: enforce.driver %s: %w", a.cfg.Enforce.Driver, err)
	}
	return nil
}

func (t *taken) takeOff(ctx context.Context, remove func(context.Context) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.off {
		return nil
	}
	if !t.told {
		close(t.end)
		t.told = true
	}
	select {
	case <-t.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := remove(ctx); err != nil {
		return err
	}
	t.off = true
	return nil
}
