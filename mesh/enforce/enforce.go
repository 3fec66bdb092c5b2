// Package enforce applies the bans of the mesh on this router at once: whatever is effective in the replicated set is dropped
// here, whether or not the conductor can be reached.
//
// Changed puts changes of the set into a queue. Run's goroutine takes them, works out what the router should hold in those
// places (want), compares that with what it holds (router) and hands the difference to the Driver in batches. Once a minute a
// job in a goroutine of its own compares everything, and reads the router if there is doubt; Run applies what it found. Another
// goroutine follows what others do to the router (Watch). Status says how far the router is behind.
//
// Run's goroutine alone owns the router's state and calls the driver's Apply.
package enforce

import (
	"context"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"go4.org/netipx"

	"banmesh/internal/random"
	"banmesh/store"
)

// replicatedSet is the part of the replicated set that is enforced; *store.Store implements it.
type replicatedSet interface {
	EffectiveParts() iter.Seq[store.EffectiveBan]
	EffectiveIn(netip.Prefix) iter.Seq[store.EffectiveBan]
	Exemptions() *netipx.IPSet // the same pointer until it changes
	Frozen() (frozen bool, by string)
}

// Config is what an Enforcer works on.
type Config struct {
	Set    replicatedSet
	Driver Driver
	// Settled reports that the set has been compared with the peers', or that there are none: nothing is changed before.
	Settled func() bool
	// Now is the agent's clock, the one by which bans end. Default time.Now.
	Now    func() time.Time
	Random rand.Source  // selects the elements of the sample; nil: the system's randomness
	Logger *slog.Logger // default: discards
}

// Enforcer keeps a router's driver in step with the replicated set. Run does the work.
type Enforcer struct {
	cfg    Config
	log    *slog.Logger
	random *rand.Rand // for Run's goroutine alone

	queue  queue
	router router // for Run's goroutine alone

	mu     sync.Mutex
	status Status
	since  time.Time // when the router fell behind; zero while it is not
}

// New makes an Enforcer. It does nothing before Run.
func New(cfg Config) *Enforcer {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	name := cfg.Driver.Name()
	return &Enforcer{
		cfg: cfg, log: cfg.Logger.With("driver", name), random: random.New(cfg.Random), queue: newQueue(cfg.Now),
		router: router{driver: cfg.Driver, size: batchSize},
		status: Status{Driver: name, State: Waiting, Behind: Unknown},
	}
}

// Changed receives every change of the set, in order. It does not block and does not call the set.
func (e *Enforcer) Changed(c store.Change) { e.queue.changed(c) }

// Remove deletes everything from this router. It is called after Run has ended, when the router leaves the mesh for good.
func (e *Enforcer) Remove(ctx context.Context) error { return e.cfg.Driver.Remove(ctx) }
