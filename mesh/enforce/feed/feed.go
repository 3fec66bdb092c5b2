// Package feed is the enforcement driver fail2ban: it keeps the peers' bans in a
// jail of the local fail2ban that has no filter, so that fail2ban's own ban
// action blocks them on this router, whatever the conductor does.
//
// The jail is the feeder's alone. `banip` takes no time of its own (fail2ban
// issue 4081), so the jail's bantime is long and the feeder lifts what has ended.
package feed

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"net/netip"
	"time"

	"banmesh/mesh/enforce"
	"banmesh/mesh/fail2ban"
	"banmesh/store"
)

// Defaults of Config.
const (
	DefaultJail  = "mesh"
	DefaultLimit = 1000
)

// Set is the part of the replicated set that is fed; *store.Store is one. Meta
// keeps what a human unbanned in the jail, over restarts.
type Set interface {
	Effective() iter.Seq[store.EffectiveBan]
	List(store.Query) []store.Entry
	Frozen() (frozen bool, by string)
	SaveMeta(ctx context.Context, key string, value []byte) error
	Meta(key string) ([]byte, bool)
}

// Client is the part of the local fail2ban's client that is used.
type Client interface {
	Banned(ctx context.Context, jail string) ([]fail2ban.Banned, error)
	Ban(ctx context.Context, jail string, prefixes []netip.Prefix) error
	Unban(ctx context.Context, jail string, prefixes []netip.Prefix) error
	Shape(ctx context.Context, jail string) (fail2ban.Shape, error)
	Empty(ctx context.Context, jail string) error
}

// Config is what a Feeder works on.
type Config struct {
	Set    Set
	Client Client
	Origin string // own name: bans that only this router made are not fed
	Jail   string // default DefaultJail
	Limit  int    // of bans in the jail; default DefaultLimit

	Settled func() bool      // nothing is done before it says yes
	Now     func() time.Time // the clock of fail2ban.HooksConfig.Now; default time.Now
	Logger  *slog.Logger
}

// Validate says what of a Config is missing.
func (c Config) Validate() error {
	switch {
	case c.Set == nil || c.Client == nil:
		return errors.New("feed: Set and Client are needed")
	case c.Origin == "":
		return errors.New("feed: Origin, the own name, is empty")
	case c.Settled == nil:
		return errors.New("feed: Settled is needed")
	}
	return nil
}

// Feeder keeps the jail in step with the peers' bans. Run does the work; all
// methods may be called concurrently. It is the Feed of fail2ban.HooksConfig:
// so it hears of what is unbanned in its jail.
type Feeder struct {
	cfg Config
}

// New makes a Feeder. It does nothing before Run.
func New(cfg Config) (*Feeder, error) {
	if cfg.Jail == "" {
		cfg.Jail = DefaultJail
	}
	if cfg.Limit <= 0 {
		cfg.Limit = DefaultLimit
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Feeder{cfg: cfg}, nil
}

// Run feeds the jail until ctx ends, and returns nil then: a fail2ban that is
// away or refuses is a State, not an error. What was fed stays.
func (f *Feeder) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Changed is told of every change of the set, in order. It does not block and
// does not call the set.
func (f *Feeder) Changed(store.Change) {}

// Remove empties the jail. It is called after Run has ended and before the set is
// closed, when the router leaves the mesh for good.
func (f *Feeder) Remove(ctx context.Context) error { return f.cfg.Client.Empty(ctx, f.cfg.Jail) }

// Status returns what the Feeder is doing.
func (f *Feeder) Status() enforce.Status {
	return enforce.Status{Driver: "fail2ban", State: enforce.Waiting}
}

// Jail is the name of the jail that is fed.
func (f *Feeder) Jail() string { return f.cfg.Jail }

// Unbanned is told by the jail's unban hook.
func (f *Feeder) Unbanned(ctx context.Context, prefix netip.Prefix, start time.Time) error {
	return nil
}

// Emptied is told when somebody unbanned all.
func (f *Feeder) Emptied(ctx context.Context, at time.Time) error { return nil }

// Started is told when the jail starts.
func (f *Feeder) Started() {}

var _ fail2ban.Feed = (*Feeder)(nil)
