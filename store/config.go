package store

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"banmesh/store/text"
)

// Config is how a store is opened.
type Config struct {
	Path   string  // the durable file; made when absent
	Volume *Volume // replaces the file in a simulation; Path is then only a name
	Origin string  // this member's stable name
	// Now is the own clock, the only one the store knows. Default time.Now.
	Now func() time.Time
	// MaxDuration caps a ban's life, counted from its start. 0 means no cap.
	MaxDuration time.Duration
	Limits      Limits
	// Members are the only origins whose records count; nil means all origins. The member's own name always counts.
	Members []string
	// Guard bounds what others can have blocked here before an operator confirms it. The zero Guard has no bounds.
	Guard Guard
	// OnChange receives every change after it is visible, in order, from one goroutine and outside all locks. It must not block
	// for long and must not call writers. May be nil.
	OnChange func(Change)
	// KeepRest is for an OnChange that wants every event of a bulk change: Change.Rest then holds up to 100,000 events beyond
	// the first ones.
	KeepRest bool
	Logger   *slog.Logger // default: discards

	// Random supplies the epoch that names this member's log; nil means the system's randomness.
	Random rand.Source
	// Commit stands between the store and its file: it receives each transaction as a function that returns when the
	// transaction is durable. A simulation uses it for a disk that is slow or full, or that loses power before or after a
	// write. Nil calls the function directly.
	Commit func(write func() error) error

	openDisk func(path string) (disk, error) // tests: a disk that fails
}

// Limits bound what one origin can do. 0 means no limit. A record over a limit is stored but not effective. Which records are
// over it depends on the set of records alone (lowest seq first, the record's own start), so that all members with equal limits
// agree.
type Limits struct {
	LivePerOrigin      int // live bans
	PerMinutePerOrigin int // bans that start in one minute
	WidestV4, WidestV6 int // shortest prefix length of a ban
	// SpaceV4 and SpaceV6 bound what the live bans of one origin cover in total: as much as one prefix of this length.
	SpaceV4, SpaceV6 int
	LiftsPerMinute   int // lifts of other members' records, written in one minute; those beyond count in the minutes after
	LiftsPerOrigin   int // lifts of other members' records, held
	AllowsPerOrigin  int // live allows
	// AllowWidestV4 and AllowWidestV6 are the shortest prefix length of an allow, and bound what the live allows of one origin
	// cover in total. Private space is free.
	AllowWidestV4, AllowWidestV6 int

	// The last resort for memory: records beyond these are refused, not merely ineffective. They count as units.
	StoredPerOrigin int // of one origin
	Stored          int // of all origins; an origin below its share is still accepted
	origins         int // names of origins; more are refused
	logs            int // logs; more are refused unless the origin is below its share
}

// DefaultLimits returns limits that no honest member reaches. They let an operator who insists allow half of the Internet; an
// operator who never will can set narrower AllowWidestV4 and AllowWidestV6.
func DefaultLimits() Limits {
	return Limits{
		LivePerOrigin: 200000, WidestV4: 8, WidestV6: 16, SpaceV4: 6, SpaceV6: 16,
		LiftsPerMinute: 1000, LiftsPerOrigin: 200000, AllowsPerOrigin: 10000, AllowWidestV4: 1, AllowWidestV6: 4,
		StoredPerOrigin: 1000000, Stored: 2000000, origins: 1024, logs: 100000,
	}
}

// validate names the limits as the configuration does, since its errors are shown to the operator.
// 0 is no limit.
func (l Limits) validate() error {
	for _, f := range []struct {
		name   string
		v, max int
	}{
		{"live_per_origin", l.LivePerOrigin, 1 << 31}, {"per_minute_per_origin", l.PerMinutePerOrigin, 1 << 31},
		{"widest_v4", l.WidestV4, 32}, {"widest_v6", l.WidestV6, 128},
		{"space_v4", l.SpaceV4, 32}, {"space_v6", l.SpaceV6, 64},
		{"lifts_per_minute", l.LiftsPerMinute, 1 << 31}, {"lifts_per_origin", l.LiftsPerOrigin, 1 << 31},
		{"allows_per_origin", l.AllowsPerOrigin, 1 << 31},
		{"allow_widest_v4", l.AllowWidestV4, 32}, {"allow_widest_v6", l.AllowWidestV6, 128},
		{"stored_per_origin", l.StoredPerOrigin, 1 << 31}, {"stored", l.Stored, 1 << 31}, {"origins", l.origins, 1 << 31},
		{"logs", l.logs, 1 << 31},
	} {
		if f.v < 0 || f.v > f.max {
			return fmt.Errorf("limit %s: %d is not between 0 and %d", f.name, f.v, f.max)
		}
	}
	return nil
}

// validate returns an error that names the field and its value.
func (c Config) validate() error {
	if c.Path == "" {
		return errors.New("store path: empty")
	}
	if err := text.CheckName(c.Origin); err != nil {
		return fmt.Errorf("origin %q: %w", c.Origin, err)
	}
	if c.MaxDuration < 0 {
		return fmt.Errorf("max duration %s: negative", c.MaxDuration)
	}
	return c.Limits.validate()
}
