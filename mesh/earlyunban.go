package mesh

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"banmesh/mesh/control"
	"banmesh/store"
)

// earlyKey is where the store keeps the unbans that wait for the first
// exchange, and maxEarly how many it keeps.
const (
	earlyKey = "unbans-before-first-exchange"
	maxEarly = 1000
)

// earlyUnbans are the unbans that were given before the first exchange with the
// others: this agent had not seen their bans yet, and could not lift them. They
// are given again once it has, for what began before they were said.
type earlyUnbans struct {
	store   *store.Store
	settled func() bool

	mu    sync.Mutex
	calls []control.UnbanCall
}

// load takes up what a former run of this agent could not give again.
func (e *earlyUnbans) load() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if raw, ok := e.store.Meta(earlyKey); ok {
		_ = json.Unmarshal(raw, &e.calls) // written by save; damage costs the repetition only
	}
}

// add keeps c where it is too early to know that it lifted everything.
func (e *earlyUnbans) add(ctx context.Context, c control.UnbanCall, now time.Time) error {
	// After the first exchange every ban of the others that began before is here.
	if c.Mine || e.settled() {
		return nil // own bans are all known here
	}
	if c.At == 0 {
		c.At = control.At(now)
	}
	// The allow of the first time is stored already, with its own end.
	c.Hold = 0
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.calls) >= maxEarly {
		e.calls = e.calls[1:]
	}
	e.calls = append(e.calls, c)
	return e.save(ctx)
}

// save is called with mu held.
func (e *earlyUnbans) save(ctx context.Context) error {
	raw, err := json.Marshal(e.calls)
	if err != nil {
		return err
	}
	return e.store.SaveMeta(ctx, earlyKey, raw)
}

// run gives the waiting calls to lift once the agent has settled.
func (e *earlyUnbans) run(ctx context.Context, lift func(context.Context, control.UnbanCall) ([]store.Lifted, error)) error {
	if !e.settled() {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.calls) == 0 {
		return nil
	}
	for len(e.calls) > 0 {
		if _, err := lift(ctx, e.calls[0]); err != nil {
			return err
		}
		e.calls = e.calls[1:]
	}
	return e.save(ctx)
}
