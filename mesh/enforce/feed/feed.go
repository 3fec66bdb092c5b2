// Package feed is the enforcement driver fail2ban: it keeps the peers' bans in a
// jail of the local fail2ban that has no filter, so that fail2ban's own ban
// action blocks them on this router, whatever the conductor does.
//
// The jail is the feeder's alone. `banip` takes no time of its own (fail2ban
// issue 4081), so the jail's ban time is long and the feeder lifts what has ended.
package feed

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"banmesh/mesh/enforce"
	"banmesh/mesh/fail2ban"
	"banmesh/store"
)

// Defaults of Config. Beyond the limit fail2ban gets slow: a program is run for
// each ban, also at each of its starts.
const (
	defaultJail  = "mesh"
	defaultLimit = 1000
)

// replicatedSet is the part of the replicated set that is fed; *store.Store is one. Its
// Meta keeps what a human unbanned in the jail, over restarts.
type replicatedSet interface {
	Effective() iter.Seq[store.EffectiveBan]
	EffectiveIn(netip.Prefix) iter.Seq[store.EffectiveBan]
	Frozen() (frozen bool, by string)
	SaveMeta(ctx context.Context, key string, value []byte) error
	Meta(key string) ([]byte, bool)
}

// client is how the local fail2ban is asked; *fail2ban.Client is one.
type client interface {
	Shape(ctx context.Context, jail string) (fail2ban.Shape, error)
	Banned(ctx context.Context, jail string) ([]fail2ban.Banned, error)
	Ban(ctx context.Context, jail string, prefixes []netip.Prefix) error
	Unban(ctx context.Context, jail string, prefixes []netip.Prefix) error
	Empty(ctx context.Context, jail string) error
}

var (
	_ replicatedSet = (*store.Store)(nil)
	_ client        = (*fail2ban.Client)(nil)
	_ fail2ban.Feed = (*Feeder)(nil)
)

// Config is what a Feeder works on.
type Config struct {
	Set    replicatedSet
	Client client
	Jail   string // default defaultJail
	Limit  int    // of bans in the jail; default defaultLimit

	// Settled says that the set has been compared with the peers', or that there
	// are none: before, nothing is changed.
	Settled func() bool
	Now     func() time.Time // the clock that the Client's times are of; default time.Now
	Logger  *slog.Logger     // default: discards
}

// Feeder keeps the jail in step with the peers' bans. Run does the work; all
// methods may be called concurrently. It is the Feed of fail2ban.HooksConfig, and
// so hears of what is unbanned in its jail.
type Feeder struct {
	cfg  Config
	log  *slog.Logger
	wake chan struct{} // holds at most one

	book book

	mu     sync.Mutex
	status enforce.Status
	lifted map[netip.Prefix]time.Time // what the jail was last told to let go, and when
	look   bool                       // the jail has started: see what it holds

	run runner // Run's goroutine owns it
}

// New makes a Feeder. It does nothing before Run.
func New(cfg Config) (*Feeder, error) {
	if cfg.Jail == "" {
		cfg.Jail = defaultJail
	}
	if cfg.Limit <= 0 {
		cfg.Limit = defaultLimit
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Set == nil || cfg.Client == nil || cfg.Settled == nil {
		return nil, errors.New("feed a jail: Set, Client and Settled are needed")
	}
	f := &Feeder{
		cfg: cfg, log: cfg.Logger.With("jail", cfg.Jail),
		wake:   make(chan struct{}, 1),
		status: enforce.Status{Driver: "fail2ban", State: enforce.Waiting, Since: cfg.Now()},
		lifted: make(map[netip.Prefix]time.Time),
		run:    runner{batch: batchFirst},
	}
	f.book.load(cfg.Set)
	return f, nil
}

// Jail is the name of the jail that is fed.
func (f *Feeder) Jail() string { return f.cfg.Jail }

// Status returns what the Feeder is doing.
func (f *Feeder) Status() enforce.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// Changed is told of every change of the set, in order. It does not block and
// does not call the set.
func (f *Feeder) Changed(c store.Change) {
	if len(c.Events) > 0 || c.More > 0 {
		f.poke()
	}
}

// Started is told when the jail has started: fail2ban repeats what its database
// holds, and may have lost it.
func (f *Feeder) Started() {
	f.mu.Lock()
	f.look = true
	f.mu.Unlock()
	f.poke()
}

func (f *Feeder) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Unbanned is told by the jail's unban hook. What the Feeder had let go is no
// news. All else is an operator's decision, and covers the offences known now: the
// prefix is fed again when a peer reports a newer one. A restart of fail2ban is
// not mistaken for that: it calls the flush hook, and not this one.
func (f *Feeder) Unbanned(ctx context.Context, prefix netip.Prefix, start time.Time) error {
	f.mu.Lock()
	at, own := f.lifted[prefix]
	f.mu.Unlock()
	if own && !start.After(at.Add(rounding)) || f.book.removedSince(start) {
		return nil
	}
	var newest store.Millis
	for e := range f.cfg.Set.EffectiveIn(prefix) {
		if e.ByPeer && e.Prefix.Bits() <= prefix.Bits() {
			newest = max(newest, e.Newest)
		}
	}
	if newest == 0 {
		return nil // nobody bans it any more
	}
	if err := f.book.unbanned(ctx, prefix, newest); err != nil {
		return err
	}
	f.log.Info("unbanned by hand in the jail that is fed: not fed again before a newer offence", "prefix", prefix)
	f.relook()
	return nil
}

// Emptied is told when somebody unbanned all: that holds for every offence until
// then.
func (f *Feeder) Emptied(ctx context.Context, at time.Time) error {
	if f.book.removedSince(at) {
		return nil
	}
	if err := f.book.emptied(ctx, store.At(at)); err != nil {
		return err
	}
	f.log.Info("all unbanned by hand: nothing is fed before newer offences")
	f.relook()
	return nil
}

// relook has the jail looked at with the next turn.
func (f *Feeder) relook() { f.Started() }

// Remove empties the jail. It is called after Run has ended and before the set is
// closed, when the router leaves the mesh for good. An error says what to do.
func (f *Feeder) Remove(ctx context.Context) error {
	shape, err := f.cfg.Client.Shape(ctx, f.cfg.Jail)
	if errors.Is(err, fail2ban.ErrNoJail) || err == nil && misfit(shape) != nil {
		return nil // nothing was ever fed
	}
	if err == nil {
		err = errors.Join(f.book.remove(ctx, f.cfg.Now()), f.cfg.Client.Empty(ctx, f.cfg.Jail))
	}
	if err != nil {
		return &removeError{f.cfg.Jail, err}
	}
	return nil
}
