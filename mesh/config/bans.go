package config

import (
	"fmt"
	"net/netip"
	"slices"

	"banmesh/store"
)

// Bans bounds what is taken as a ban.
type Bans struct {
	MaxDuration Duration `yaml:"max_duration"` // 0 is no limit
	MinDuration Duration `yaml:"min_duration"` // shorter ones stay on this router
	Aggregate   bool     `yaml:"aggregate"`    // minimal prefixes at the conductor
}

// Share names the jails whose bans leave this router. Empty Jails is all.
type Share struct {
	Jails       []string `yaml:"jails"`
	ExceptJails []string `yaml:"except_jails"`
}

// Has says whether the bans of a jail are shared.
func (s *Share) Has(jail string) bool {
	return (len(s.Jails) == 0 || slices.Contains(s.Jails, jail)) && !slices.Contains(s.ExceptJails, jail)
}

// validateBans, as every check here, collects all that is wrong, so that an operator corrects a file once.
func (c *Config) validateBans() error {
	var bad faults
	if c.Bans.MaxDuration < 0 {
		bad.add(field("bans.max_duration", "is negative: 0 is no limit"))
	}
	if c.Bans.MinDuration < 0 {
		bad.add(field("bans.min_duration", "is negative"))
	}
	if c.Bans.MaxDuration > 0 && c.Bans.MinDuration > c.Bans.MaxDuration {
		bad.add(field("bans.min_duration", "is longer than bans.max_duration"))
	}
	bad.add(c.Limits.validate(c.Name))
	bad.add(c.Quorum.validate())
	bad.add(c.Fail2ban.validate())
	// A lease has room for 256; the rest is for the router's own addresses, gateways and conductors.
	if len(c.NeverBan) > 200 {
		bad.add(field("never_ban", "has %d prefixes: at most 200", len(c.NeverBan)))
	}
	for i, p := range c.NeverBan {
		// The store's bound for one never-ban: what is wider would count nowhere, and protect nothing.
		widest := 8
		if p.Addr().Is6() {
			widest = 16
		}
		if p.Bits() < widest {
			bad.add(field(fmt.Sprintf("never_ban[%d]", i), "%v is wider than /%d", p, widest))
		}
	}
	own := make([]netip.Prefix, len(c.NeverBan))
	for i, p := range c.NeverBan {
		own[i] = p.Prefix
	}
	if wide := store.UncountedNeverBans(own); len(wide) > 0 {
		bad.add(field(fmt.Sprintf("never_ban[%d]", slices.Index(own, wide[0])), "%v does not count beside the others: together they may be no wider than one /8 (IPv4) or /16 (IPv6) of the public Internet", wide[0]))
	}
	return bad.err()
}

// Exempted reports whether never_ban covers an address.
func (c *Config) Exempted(addr netip.Addr) bool {
	return slices.ContainsFunc(c.NeverBan, func(p Prefix) bool { return p.Contains(addr) })
}
