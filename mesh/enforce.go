package mesh

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/enforce"
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

// enforcement has the bans take effect on this router, and takes them off it after
// what enforces them has ended: it would put them back.
// It outlives its enforcer: after a leave the bans must be taken off, and Remove may only run once Run has ended.
type enforcement struct {
	enforcer
	driver  string                          // as configured
	removed func(ctx context.Context) error // notes that nothing is left on this router; may be nil
	log     *slog.Logger
	// end asks run to stop, ended says that it has
	end, ended chan struct{}

	mu   sync.Mutex
	told bool // end is closed
	off  bool // nothing is left to take off
}

func newEnforcement(by enforcer, driver string, log *slog.Logger) *enforcement {
	return &enforcement{enforcer: by, driver: driver, log: log, end: make(chan struct{}), ended: make(chan struct{})}
}

// run enforces until ctx ends or the bans are taken off.
func (e *enforcement) run(ctx context.Context) error {
	defer close(e.ended)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-e.end:
			cancel()
		case <-ctx.Done():
		}
	}()
	// An enforcer that ends by itself has failed; one that was stopped has not.
	if err := e.Run(ctx); ctx.Err() == nil {
		return err
	}
	return nil
}

// takeOff takes the bans off this router, where nobody would end them any more. What
// failed is tried again by the next call.
func (e *enforcement) takeOff(ctx context.Context) error {
	if err := e.endAndRemove(ctx); err != nil {
		e.log.Error("take the bans off this router", "driver", e.driver, "error", err)
		return fmt.Errorf("the bans stay on this router, and nobody ends them any more: enforce.driver %s: %w", e.driver, err)
	}
	return nil
}

// endAndRemove first lets Run end and only then removes the table, or Run would put back what is missing. It
// can be called again after an error and does nothing once it has succeeded.
func (e *enforcement) endAndRemove(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.off {
		return nil
	}
	if !e.told {
		close(e.end)
		e.told = true
	}
	select {
	case <-e.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := e.Remove(ctx); err != nil {
		return err
	}
	e.off = true
	if e.removed != nil {
		if err := e.removed(ctx); err != nil {
			e.log.Warn("note that the bans are off this router", "error", err)
		}
	}
	return nil
}

// status is how enforcement fares; nil where there is none.
func (e *enforcement) status() *control.Enforcement {
	if e == nil {
		return nil
	}
	s := e.Status()
	out := &control.Enforcement{
		Driver: s.Driver, State: string(s.State), Detail: s.Detail, Caveat: s.Caveat, InForce: s.Elements,
		Dropped: s.Dropped.Packets, DroppedBytes: s.Dropped.Bytes, BehindMS: s.BehindFor.Milliseconds(),
	}
	if s.Behind != enforce.Unknown {
		out.Behind = &s.Behind
	}
	return out
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

// tableTime bounds the removal of a table: the agent starts only after it.
const tableTime = 5 * time.Second

// removeTable removes the nftables table in a network namespace.
func (d *Doors) removeTable(ctx context.Context, netns string) error {
	ctx, cancel := context.WithTimeout(ctx, tableTime)
	defer cancel()
	driver, err := d.Kernel(netns, nil)
	if err != nil {
		return err
	}
	return driver.Remove(ctx)
}
