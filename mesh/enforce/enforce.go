// Package enforce makes the bans of the mesh take effect on this router at once: what is effective in the replicated set
// is dropped here, whether or not the conductor can be reached.
package enforce

import (
	"context"
	"iter"
	"log/slog"
	"net/netip"
	"time"

	"go4.org/netipx"

	"banmesh/store"
)

// Set is the part of the replicated set that is enforced; *store.Store is one.
type Set interface {
	Effective() iter.Seq[store.EffectiveBan]
	EffectiveIn(netip.Prefix) iter.Seq[store.EffectiveBan]
	Shield() *netipx.IPSet
	Frozen() (frozen bool, by string)
}

// Config says what is enforced, and where.
type Config struct {
	Set    Set
	Driver Driver
	// Settled says that the set has been compared with the peers', or that there are none: before, nothing is changed.
	Settled func() bool
	// Now is the agent's clock, the one by which bans end. Default time.Now.
	Now    func() time.Time
	Logger *slog.Logger // default: discards
}

// Enforcer keeps a router's driver in step with the replicated set. Run does the work.
type Enforcer struct {
	cfg Config
}

// New makes an Enforcer. It does nothing before Run.
func New(cfg Config) *Enforcer {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Enforcer{cfg: cfg}
}

// Run enforces until ctx ends, and returns nil then: a router that refuses is a State, not an error. What is enforced
// stays, so that neither a restart nor a crash lets anybody in.
func (e *Enforcer) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Changed is told of every change of the set, in order. It does not block and does not call the set.
func (e *Enforcer) Changed(store.Change) {}

// Remove takes everything off this router. It is called after Run has ended, when the router leaves the mesh for good.
func (e *Enforcer) Remove(ctx context.Context) error { return e.cfg.Driver.Remove(ctx) }

// Status returns what the Enforcer is doing.
func (e *Enforcer) Status() Status { return Status{} }
