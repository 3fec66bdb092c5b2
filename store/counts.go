package store

import (
	"iter"
	"net/netip"
	"slices"
	"sync"

	"go4.org/netipx"
)

// countsCache keeps the last Counts: they need a look at every record.
type countsCache struct {
	mu      sync.Mutex
	version uint64
	at      Millis
	counts  Counts
	jails   map[string]int // not to be changed
}

// Counts returns the sizes of the set. They are at most a second old.
func (s *Store) Counts() Counts {
	n, _ := s.count()
	return n
}

// JailCounts returns how many prefixes have a live ban in each jail, as old as Counts. It is not to be changed.
func (s *Store) JailCounts() map[string]int {
	_, jails := s.count()
	return jails
}

func (s *Store) count() (Counts, map[string]int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	now := s.now()
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	if s.counts.version == s.version && s.counts.at/second == now/second {
		return s.counts.counts, s.counts.jails
	}
	set := s.set
	n := Counts{Records: set.records, Logs: len(set.byID), OverLimit: set.over}
	jails := set.countBans(&n, now, s.exemptionsLocked(now))
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
	s.counts.version, s.counts.at, s.counts.counts, s.counts.jails = s.version, now, n, jails
	return n, jails
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

// countBans counts the prefixes with a live ban, all and by jail.
func (s *set) countBans(n *Counts, now Millis, exemptions *netipx.IPSet) map[string]int {
	near := nearExemption(exemptions)
	byJail := make(map[string]*int)
	var last string // most bans have the jail of the one before
	var lastCount *int
	var seen []string // the jails of one prefix
	for i := range s.heads() {
		live, own, counts := false, false, false
		seen = seen[:0]
		for c := i; c != 0; {
			r := s.slab.at(c)
			if liveBan(r, now) {
				live = true
				own = own || s.originOf(r).name == s.self
				counts = counts || s.counting(r)
				if jail := s.labels.at(r.label).jail; !slices.Contains(seen, jail) {
					seen = append(seen, jail)
					if lastCount == nil || jail != last {
						if last, lastCount = jail, byJail[jail]; lastCount == nil {
							lastCount = new(int)
							byJail[jail] = lastCount
						}
					}
					*lastCount++
				}
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
	jails := make(map[string]int, len(byJail))
	for jail, n := range byJail {
		jails[jail] = *n
	}
	return jails
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
