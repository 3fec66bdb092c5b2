// Package feed is the enforcement driver fail2ban: it keeps the peers' bans in a jail of the local fail2ban that has no filter,
// so that fail2ban's own ban action blocks them on this router, whatever the conductor does.
//
// The jail belongs to the feeder alone. `banip` cannot set a ban time (fail2ban issue 4081), so the jail's ban time is long and
// the feeder unbans what has ended.
//
// Run's goroutine compares the jail with the set and makes at most one call that bans and one that unbans at a time. Changed
// and the jail's hooks only wake it.
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

// Defaults of Config. Beyond the limit fail2ban gets slow: it runs a program for each ban, again at each of its starts.
const (
	defaultJail  = "mesh"
	defaultLimit = 1000
)

// replicatedSet is the part of the replicated set that is fed; *store.Store implements it. Meta keeps what a human unbanned in
// the jail, over restarts.
type replicatedSet interface {
	Effective() iter.Seq[store.EffectiveBan]
	EffectiveIn(netip.Prefix) iter.Seq[store.EffectiveBan]
	Frozen() (frozen bool, by string)
	SaveMeta(ctx context.Context, key string, value []byte) error
	Meta(key string) ([]byte, bool)
}

// client asks the local fail2ban; *fail2ban.Client implements it.
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

	// Settled reports that the set has been compared with the peers', or that there are none: nothing is changed before.
	Settled func() bool
	Now     func() time.Time // the clock of the Client's times; default time.Now
	Logger  *slog.Logger     // default: discards
}

// Feeder keeps the jail in step with the peers' bans. Run does the work; all methods may be called concurrently. It is the Feed
// of fail2ban.HooksConfig, which reports the unbans in its jail.
type Feeder struct {
	cfg  Config
	log  *slog.Logger
	wake chan struct{} // holds at most one

	book book

	mu     sync.Mutex
	status enforce.Status
	lifted map[netip.Prefix]time.Time // what the jail was last told to unban, and when
	look   bool                       // the jail has started: read what it holds

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
		status: enforce.Status{Driver: "fail2ban", State: enforce.Waiting},
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

// Changed receives every change of the set, in order. It does not block and does not call the set.
func (f *Feeder) Changed(c store.Change) {
	if len(c.Events) > 0 || c.More > 0 {
		f.poke()
	}
}

// Started is called when the jail has started: fail2ban then repeats what its database holds, and may have lost that.
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

// Unbanned is called by the jail's unban hook. It ignores what the Feeder itself unbanned. Everything else is an operator's
// decision and covers the offences known now: the prefix is fed again when a peer reports a newer one. A restart of fail2ban
// does not look like that, because it calls the flush hook instead.
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
		return nil // no member bans it any more
	}
	if err := f.book.unbanned(ctx, prefix, newest); err != nil {
		return err
	}
	f.log.Info("unbanned by hand in the jail that is fed: not fed again before a newer offence", "prefix", prefix)
	f.relook()
	return nil
}

// Emptied is called when somebody unbanned everything, which covers every offence until then.
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

// relook has the next turn read the jail.
func (f *Feeder) relook() { f.Started() }

// Remove empties the jail. It is called after Run has ended and before the set is closed, when the router leaves the mesh for
// good. An error says what to do.
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
