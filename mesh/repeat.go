package mesh

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"banmesh/mesh/control"
	"banmesh/store"
)

// repeatKey is where the store keeps the unbans that wait for the first
// exchange, and maxRepeats how many it keeps.
const (
	repeatKey  = "unbans-before-first-exchange"
	maxRepeats = 1000
)

// repeats are the unbans that were given before the first exchange with the
// others: this agent had not seen their bans yet, and could not lift them. They
// are given again once it has, for what began before they were said.
type repeats struct {
	store   *store.Store
	settled func() bool

	mu    sync.Mutex
	calls []control.UnbanCall
}

// load takes up what a former run of this agent could not repeat any more.
func (r *repeats) load() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if raw, ok := r.store.Meta(repeatKey); ok {
		_ = json.Unmarshal(raw, &r.calls) // written by save; damage costs the repetition only
	}
}

// add keeps c where it is too early to know that it lifted everything.
func (r *repeats) add(ctx context.Context, c control.UnbanCall, now time.Time) error {
	if c.Mine || r.settled() {
		return nil // own bans are all known here
	}
	if c.At == 0 {
		c.At = control.At(now)
	}
	c.Hold = 0
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.calls) >= maxRepeats {
		r.calls = r.calls[1:]
	}
	r.calls = append(r.calls, c)
	return r.save(ctx)
}

// save is called with mu held.
func (r *repeats) save(ctx context.Context) error {
	raw, err := json.Marshal(r.calls)
	if err != nil {
		return err
	}
	return r.store.SaveMeta(ctx, repeatKey, raw)
}

// run gives the waiting calls to lift once the agent has settled.
func (r *repeats) run(ctx context.Context, lift func(context.Context, control.UnbanCall) ([]store.Lifted, error)) error {
	if !r.settled() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.calls) == 0 {
		return nil
	}
	for len(r.calls) > 0 {
		if _, err := lift(ctx, r.calls[0]); err != nil {
			return err
		}
		r.calls = r.calls[1:]
	}
	return r.save(ctx)
}
