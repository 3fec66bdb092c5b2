package store

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"banmesh/store/text"
)

// Config says how a store is opened.
type Config struct {
	Path   string  // the durable file; made when absent
	Volume *Volume // in its place, in a simulation: Path is then but a name
	Origin string  // this member's stable name
	// Now is the own clock, the only one the store knows. Default time.Now.
	Now func() time.Time
	// MaxDuration caps a ban's life, counted from its start. 0 = no cap.
	MaxDuration time.Duration
	Limits      Limits
	// Members are the only origins of which anything counts; nil: anybody. The own name is always one of them.
	Members []string
	// Guard bounds what others can have blocked here before an operator confirms it. The zero Guard bounds nothing.
	Guard Guard
	// OnChange is told of every change after it is visible, in order, from one goroutine and outside all locks. It must not
	// block for long and must not call writers. May be nil.
	OnChange func(Change)
	// KeepRest is for an OnChange that wants every event of a bulk change: Change.Rest holds up to 100,000 beyond the first ones.
	KeepRest bool
	Logger   *slog.Logger // default: discards

	// Random is where the number comes from that names this member's log; nil: the system.
	Random rand.Source
	// Commit stands between the store and its file: it is given each transaction as a function that returns when it is
	// durable. A simulated disk is slow here, is full, or loses power before or after. Nil: nothing does.
	Commit func(write func() error) error

	openDisk func(path string) (disk, error) // tests: a disk that fails
}

// Limits bound what one origin can do. 0 means none. What exceeds a limit is stored but not effective; which records
// exceed it depends on the set of records alone (lowest seq first, the record's own start), so that all members agree, if
// their limits are the same.
type Limits struct {
	LivePerOrigin      int // live bans
	PerMinutePerOrigin int // bans that start in one minute
	WidestV4, WidestV6 int // shortest prefix length of a ban
	// SpaceV4 and SpaceV6 bound what the live bans of one origin cover altogether: as much as one prefix of this length.
	SpaceV4, SpaceV6 int
	LiftsPerMinute   int // lifts of what others wrote, written in one minute
	LiftsPerOrigin   int // likewise, held
	AllowsPerOrigin  int // live allows
	// AllowWidestV4 and AllowWidestV6 are the shortest prefix length of an allow, and what the live allows of one origin
	// cover altogether. Private space is free.
	AllowWidestV4, AllowWidestV6 int

	// The last resort for memory: beyond these records are refused, not merely ineffective. They count as units.
	StoredPerOrigin int // of one origin
	Stored          int // of all; an origin that has less than its share of it is still taken
	origins         int // names of origins; new ones are refused
	logs            int // logs; likewise, of an origin that has its share
}

// DefaultLimits returns limits that no honest member reaches. An operator may allow half of the Internet, if they say so
// twice: an operator who never will sets AllowWidestV4 and AllowWidestV6 as needed.
func DefaultLimits() Limits {
	return Limits{
		LivePerOrigin: 200000, WidestV4: 8, WidestV6: 16, SpaceV4: 6, SpaceV6: 16,
		LiftsPerMinute: 1000, LiftsPerOrigin: 200000, AllowsPerOrigin: 10000, AllowWidestV4: 1, AllowWidestV6: 4,
		StoredPerOrigin: 1000000, Stored: 2000000, origins: 1024, logs: 100000,
	}
}

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

// Validate returns an error that names the field and its value.
func (c Config) Validate() error {
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
