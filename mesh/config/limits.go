package config

import (
	"fmt"
	"hash/fnv"
	"slices"

	"banmesh/store"
)

// Limits bound what one router may make the others hold effective; 0 is no
// limit. They must be the same on all routers: which records count is found out
// by each of them for itself.
type Limits struct {
	LivePerOrigin      int `yaml:"live_per_origin"`
	PerMinutePerOrigin int `yaml:"per_minute_per_origin"`

	WidestIPv4 int `yaml:"widest_ipv4"` // shortest prefix length of a ban
	WidestIPv6 int `yaml:"widest_ipv6"`
	SpaceIPv4  int `yaml:"space_ipv4"` // all live bans of a router cover at most what a prefix of this length does
	SpaceIPv6  int `yaml:"space_ipv6"`

	LiftsPerMinutePerOrigin int `yaml:"lifts_per_minute_per_origin"` // of others' bans; what is beyond counts in the minutes after
	LiftsPerOrigin          int `yaml:"lifts_per_origin"`            // likewise, held at once

	AllowsPerOrigin int `yaml:"allows_per_origin"`
	WidestAllowIPv4 int `yaml:"widest_allow_ipv4"` // each allow, and what all live ones of a router cover together
	WidestAllowIPv6 int `yaml:"widest_allow_ipv6"`

	// StoredPerOrigin and Stored bound the memory: what is beyond them is not even
	// kept. 0: the store's own default.
	StoredPerOrigin int `yaml:"stored_per_origin"`
	Stored          int `yaml:"stored"`

	// Members are the only routers of which anything counts. Empty: every member that has the
	// gossip key.
	Members []string `yaml:"members"`
}

// The store owns the numbers; the configuration only names them.
func defaultLimits() Limits {
	s := store.DefaultLimits()
	return Limits{
		LivePerOrigin: s.LivePerOrigin, WidestIPv4: s.WidestV4, WidestIPv6: s.WidestV6, SpaceIPv4: s.SpaceV4, SpaceIPv6: s.SpaceV6,
		LiftsPerMinutePerOrigin: s.LiftsPerMinute, LiftsPerOrigin: s.LiftsPerOrigin, AllowsPerOrigin: s.AllowsPerOrigin,
		WidestAllowIPv4: s.AllowWidestV4, WidestAllowIPv6: s.AllowWidestV6,
	}
}

// Store are the limits for the store. What is kept of one origin beside its live
// bans, its lifts and what has lately ended, is bounded by the same measure.
func (l *Limits) Store() store.Limits {
	s := store.DefaultLimits()
	s.LivePerOrigin, s.PerMinutePerOrigin = l.LivePerOrigin, l.PerMinutePerOrigin
	s.WidestV4, s.WidestV6, s.SpaceV4, s.SpaceV6 = l.WidestIPv4, l.WidestIPv6, l.SpaceIPv4, l.SpaceIPv6
	s.LiftsPerMinute, s.LiftsPerOrigin = l.LiftsPerMinutePerOrigin, l.LiftsPerOrigin
	s.AllowsPerOrigin, s.AllowWidestV4, s.AllowWidestV6 = l.AllowsPerOrigin, l.WidestAllowIPv4, l.WidestAllowIPv6
	switch {
	case l.StoredPerOrigin > 0:
		s.StoredPerOrigin = l.StoredPerOrigin
	// Without a limit on what counts, none on what is kept makes sense either.
	case l.LivePerOrigin == 0:
		s.StoredPerOrigin = 0
	default:
		// Beside the live bans there are their lifts and what has lately ended. With less room, a router that bans up to its
		// limit would have its own bans refused.
		s.StoredPerOrigin = max(s.StoredPerOrigin, 5*l.LivePerOrigin)
	}
	switch {
	case l.Stored > 0:
		s.Stored = l.Stored
	case s.StoredPerOrigin == 0:
		s.Stored = 0
	default:
		s.Stored = max(s.Stored, 2*s.StoredPerOrigin)
	}
	return s
}

// Counted are the members of which anything counts, nil for all.
func (l *Limits) Counted() []string {
	if len(l.Members) == 0 {
		return nil
	}
	return l.Members
}

// validate repeats the store's bounds under the names that the operator knows; the store checks again for its
// other users.
func (l *Limits) validate(self string) error {
	for _, f := range []struct {
		key    string
		v, max int
	}{
		{"live_per_origin", l.LivePerOrigin, 1 << 31}, {"per_minute_per_origin", l.PerMinutePerOrigin, 1 << 31},
		{"widest_ipv4", l.WidestIPv4, 32}, {"widest_ipv6", l.WidestIPv6, 128},
		{"space_ipv4", l.SpaceIPv4, 32}, {"space_ipv6", l.SpaceIPv6, 64},
		{"lifts_per_minute_per_origin", l.LiftsPerMinutePerOrigin, 1 << 31}, {"lifts_per_origin", l.LiftsPerOrigin, 1 << 31},
		{"allows_per_origin", l.AllowsPerOrigin, 1 << 31},
		{"widest_allow_ipv4", l.WidestAllowIPv4, 32}, {"widest_allow_ipv6", l.WidestAllowIPv6, 64},
		{"stored_per_origin", l.StoredPerOrigin, 1 << 31}, {"stored", l.Stored, 1 << 31},
	} {
		switch {
		case f.v < 0:
			return field("limits."+f.key, "%d is negative", f.v)
		case f.v > f.max:
			return field("limits."+f.key, "%d is more than %d", f.v, f.max)
		}
	}
	if l.StoredPerOrigin > 0 && l.StoredPerOrigin < l.LivePerOrigin {
		return field("limits.stored_per_origin", "%d is less than limits.live_per_origin, %d", l.StoredPerOrigin, l.LivePerOrigin)
	}
	for i, name := range l.Members {
		if err := CheckName(name); err != nil {
			return field(fmt.Sprintf("limits.members[%d]", i), "%q %v", name, err)
		}
	}
	if len(l.Members) > 0 && !slices.Contains(l.Members, self) {
		return field("limits.members", "does not name %s itself: the others would not count what it bans", self)
	}
	return nil
}

// Sum is a short name of the limits as far as members must agree on them, the
// same for the same limits.
// Members tell each other this number. Routers with different limits disagree about what is banned, and nothing else would
// show it.
func (l *Limits) Sum() uint64 {
	same := *l
	same.Stored, same.StoredPerOrigin = 0, 0 // a matter of each router's memory
	same.Members = slices.Compact(slices.Sorted(slices.Values(l.Members)))
	h := fnv.New64a()
	fmt.Fprintf(h, "%+v", same)
	return h.Sum64()
}
