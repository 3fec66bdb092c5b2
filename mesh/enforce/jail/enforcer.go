// Package jail is the enforcement driver fail2ban: it keeps the peers' bans in a jail of the local fail2ban that has no filter,
// so that fail2ban's own ban action blocks them on this router, whatever the conductor does.
//
// The jail belongs to the enforcer alone. `banip` cannot set a ban time (fail2ban issue 4081), so the jail's ban time is long and
// the enforcer unbans what has ended.
//
// Run's goroutine compares the jail with the set and makes at most one call that bans and one that unbans at a time. Changed
// and the jail's hooks only wake it.
package jail

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

// replicatedSet is the part of the replicated set that fills the jail; *store.Store implements it. Meta keeps what a human unbanned in
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
	// The compiler holds the interfaces to the types that mesh passes.
	_ replicatedSet     = (*store.Store)(nil)
	_ client            = (*fail2ban.Client)(nil)
	_ fail2ban.MeshJail = (*Enforcer)(nil)
)

// Config is what an Enforcer works on.
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

// Enforcer keeps the jail in step with the peers' bans. Run does the work; all methods may be called concurrently. It is the MeshJail
// of fail2ban.HooksConfig, which reports the unbans in its jail.
type Enforcer struct {
	cfg  Config
	log  *slog.Logger
	wake chan struct{} // holds at most one

	book book

	mu     sync.Mutex
	status enforce.Status
	// The jail's own hook reports these unbans as well, possibly much later by the spool; they must not pass for a human's.
	lifted map[netip.Prefix]time.Time // what the jail was last told to unban, and when
	look   bool                       // the jail has started: read what it holds

	run runner // Run's goroutine owns it
}

// New makes an Enforcer. It does nothing before Run.
func New(cfg Config) (*Enforcer, error) {
	if cfg.Jail == "" {
		cfg.Jail = defaultJail
	}
	// Zero is a caller that leaves it open; config.Validate refuses it in a file.
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
		return nil, errors.New("enforce in a jail: Set, Client and Settled are needed")
	}
	j := &Enforcer{
		cfg: cfg, log: cfg.Logger.With("jail", cfg.Jail),
		wake:   make(chan struct{}, 1),
		status: enforce.Status{Driver: "fail2ban", State: enforce.Waiting},
		lifted: make(map[netip.Prefix]time.Time),
		run:    runner{batch: batchFirst},
	}
	j.book.load(cfg.Set)
	return j, nil
}

// Jail is the name of the jail that is fed.
func (j *Enforcer) Jail() string { return j.cfg.Jail }

// Status returns what the Enforcer is doing.
func (j *Enforcer) Status() enforce.Status {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.status
}

// Changed receives every change of the set, in order. It does not block and does not call the set.
func (j *Enforcer) Changed(c store.Change) {
	if len(c.Events) > 0 || c.More > 0 {
		j.poke()
	}
}

// Started is called when the jail has started: fail2ban then repeats what its database holds, and may have lost that.
func (j *Enforcer) Started() {
	j.mu.Lock()
	j.look = true
	j.mu.Unlock()
	j.poke()
}

func (j *Enforcer) poke() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// Unbanned is called by the jail's unban hook. It ignores what the Enforcer itself unbanned. Everything else is an operator's
// decision and covers the offences known now: the prefix is fed again when a peer reports a newer one. A restart of fail2ban
// does not look like that, because it calls the flush hook instead.
// fail2ban waits for the hook to return, so that nothing in here may ask fail2ban.
func (j *Enforcer) Unbanned(ctx context.Context, prefix netip.Prefix, start time.Time) error {
	j.mu.Lock()
	at, own := j.lifted[prefix]
	j.mu.Unlock()
	if own && !start.After(at.Add(rounding)) || j.book.removedSince(start) {
		return nil
	}
	var newest store.Millis
	for e := range j.cfg.Set.EffectiveIn(prefix) {
		if e.ByPeer && e.Prefix.Bits() <= prefix.Bits() {
			newest = max(newest, e.Newest)
		}
	}
	if newest == 0 {
		return nil // no member bans it any more
	}
	if err := j.book.unbanned(ctx, prefix, newest); err != nil {
		return err
	}
	j.log.Info("unbanned by hand in this router's jail: not banned there again before a newer offence", "prefix", prefix)
	j.relook()
	return nil
}

// Emptied is called when somebody unbanned everything, which covers every offence until then.
func (j *Enforcer) Emptied(ctx context.Context, at time.Time) error {
	if j.book.removedSince(at) {
		return nil
	}
	if err := j.book.emptied(ctx, store.At(at)); err != nil {
		return err
	}
	j.log.Info("all unbanned by hand: nothing is banned again before newer offences")
	j.relook()
	return nil
}

// relook has the next turn read the jail.
func (j *Enforcer) relook() { j.Started() }

// Remove empties the jail. It is called after Run has ended and before the set is closed, when the router leaves the mesh for
// good. An error says what to do.
func (j *Enforcer) Remove(ctx context.Context) error {
	shape, err := j.cfg.Client.Shape(ctx, j.cfg.Jail)
	// A jail of another shape belongs to somebody else, and what it bans is not ours to remove.
	if errors.Is(err, fail2ban.ErrNoJail) || err == nil && misfit(shape) != nil {
		return nil // nothing was ever fed
	}
	if err == nil {
		err = errors.Join(j.book.remove(ctx, j.cfg.Now()), j.cfg.Client.Empty(ctx, j.cfg.Jail))
	}
	if err != nil {
		return &removeError{j.cfg.Jail, err}
	}
	return nil
}
