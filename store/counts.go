package store

import (
	"iter"
	"net/netip"
	"slices"
	"sync"

	"go4.org/netipx"
)

// countsCache keeps the last Counts, because computing them visits every record.
type countsCache struct {
	mu      sync.Mutex
	version uint64
	at      Millis
	counts  Counts
	jails   map[string]int // shared with callers: never modified
}

// Counts returns the sizes of the set, at most a second old.
func (s *Store) Counts() Counts {
	n, _ := s.count()
	return n
}

// JailCounts returns how many prefixes have a live ban in each jail, as old as Counts. Callers must not modify the map.
func (s *Store) JailCounts() map[string]int {
	_, jails := s.count()
	return jails
}

// count counts at most once a second and change of the set: status, metrics and the page ask often,
// and each count visits every prefix. The map is shared by all callers and must not be changed.
// Lock order: Store.mu, then counts.mu.
func (s *Store) count() (Counts, map[string]int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	now := s.now()
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	// Time alone changes the counts too, as bans expire, hence the second.
	if s.counts.version == s.version && s.counts.at/second == now/second {
		return s.counts.counts, s.counts.jails
	}
	set := s.set
	n := Counts{Records: set.records, Logs: len(set.byID), OverLimit: set.over}
	jails := set.countBans(&n, now, s.exemptionsLocked(now))
	set.allows.all(func(i uint32) {
		if set.exempts(set.slab.at(i), now) {
			n.Allows++
		}
	})
	for i := range set.guard.held {
		if set.counting(set.slab.at(i)) {
			n.Held++
		}
	}
	s.counts.version, s.counts.at, s.counts.counts, s.counts.jails = s.version, now, n, jails
	return n, jails
}

// heads yields the first record of each prefix, and the records without prefix, in memory order: in table order, each would
// miss the CPU's cache.
func (s *set) heads() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		later := make([]uint64, s.slab.used/64+1) // one bit for each record that is not its prefix's first
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

// countBans counts the prefixes with a live ban, in total and by jail.
func (s *set) countBans(n *Counts, now Millis, exemptions exemptions) map[string]int {
	byJail := make(map[string]*int)
	var last string // most bans have the same jail as the one before
	var lastCount *int
	var seen []string // jails of the current prefix
	for i := range s.heads() {
		live, own, counts := false, false, false
		seen = seen[:0]
		for c := i; c != 0; {
			r := s.slab.at(c)
			if liveBan(r, now) {
				live = true
				own = own || s.originOf(r).name == s.self
				counts = counts || s.counting(r)
				// A prefix counts once in a jail, however many routers have banned it there.
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
		if !exemptions.covers(s.slab.at(i).key().prefix()) {
			n.Effective++
		}
	}
	jails := make(map[string]int, len(byJail))
	for jail, n := range byJail {
		jails[jail] = *n
	}
	return jails
}

// nearExemption returns a quick test for what may overlap an exemption, by the first byte of the address: most bans are nowhere
// near one.
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
		// Wider than what the first byte tells.
		case p.Bits() < 8:
			return true
		case a.Is4():
			return near[1][a.As4()[0]]
		default:
			return near[0][a.As16()[0]]
		}
	}
}
