package store

import (
	"iter"
	"net/netip"
	"sync"

	"go4.org/netipx"
)

// countsCache keeps the last Counts: they need a look at every record.
type countsCache struct {
	mu      sync.Mutex
	version uint64
	at      Millis
	counts  Counts
}

// Counts returns the sizes of the set. They are at most a second old.
func (s *Store) Counts() Counts {
	s.mu.RLock()
	defer s.mu.RUnlock()
	now := s.now()
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	if s.counts.version == s.version && s.counts.at/second == now/second {
		return s.counts.counts
	}
	set := s.set
	n := Counts{Records: set.records, Logs: len(set.byID), OverLimit: set.over}
	set.countBans(&n, now, s.exemptionsLocked(now))
	for i := range set.allows {
		if r := set.slab.at(i); !r.is(flagLifted) && r.until > now && set.counting(r) {
			n.Allows++
		}
	}
	for i := range set.guard.held {
		if set.counting(set.slab.at(i)) {
			n.Held++
		}
	}
	s.counts.version, s.counts.at, s.counts.counts = s.version, now, n
	return n
}

// heads yields the first record of each prefix, and records without prefix, as
// they lie in memory: by the table, each would be a miss of the cache.
func (s *set) heads() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		later := make([]uint64, s.slab.used/64+1) // a bit for each record that is not the first
		for i := uint32(1); i < s.slab.used; i++ {
			if r := s.slab.at(i); r.next != 0 && !r.is(flagDead) {
				later[r.next/64] |= 1 << (r.next % 64)
			}
		}
		for i := uint32(1); i < s.slab.used; i++ {
			if later[i/64]&(1<<(i%64)) == 0 && !s.slab.at(i).is(flagDead) && !yield(i) {
				return
			}
		}
	}
}

// countBans counts the prefixes with a live ban.
func (s *set) countBans(n *Counts, now Millis, exemptions *netipx.IPSet) {
	near := nearExemption(exemptions)
	for i := range s.heads() {
		live, own, counts := false, false, false
		for c := i; c != 0; {
			r := s.slab.at(c)
			if liveBan(r, now) {
				live = true
				own = own || s.originOf(r).name == s.self
				counts = counts || s.counting(r)
			}
			c = r.next
		}
		if live {
			n.Live++
		}
		if own {
			n.Own++
		}
		if !counts {
			continue
		}
		if p := s.slab.at(i).key().prefix(); !near(p) || !exemptions.ContainsPrefix(p) {
			n.Effective++
		}
	}
}

// nearExemption returns a quick test of what may overlap an exemption, by the first
// byte of the address: most bans are nowhere near it.
func nearExemption(exemptions *netipx.IPSet) func(netip.Prefix) bool {
	var near [2][256]bool // IPv6 and IPv4
	for _, r := range exemptions.Ranges() {
		version := 0
		if r.From().Is4() {
			version = 1
		}
		for b := int(r.From().AsSlice()[0]); b <= int(r.To().AsSlice()[0]); b++ {
			near[version][b] = true
		}
	}
	return func(p netip.Prefix) bool {
		switch a := p.Addr(); {
		case p.Bits() < 8:
			return true
		case a.Is4():
			return near[1][a.As4()[0]]
		default:
			return near[0][a.As16()[0]]
		}
	}
}
