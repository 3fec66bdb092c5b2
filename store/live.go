package store

import (
	"iter"
	"net/netip"
)

// LiveBan is one live ban, whether or not it counts.
type LiveBan struct {
	Prefix       netip.Prefix
	Origin, Jail string
	Start, Until Millis
	Failures     uint32
	Reason       string
}

// LiveBans yields every live ban, in no order. Like EffectiveParts it takes the lock again and again for a short time: a ban
// that changes meanwhile may be yielded as it was, as it is, twice or not at all.
func (s *Store) LiveBans() iter.Seq[LiveBan] {
	return func(yield func(LiveBan) bool) {
		some := func(first uint32) (more bool) {
			s.mu.RLock()
			defer s.mu.RUnlock()
			now := s.now()
			for i := first; i < min(first+part, s.set.slab.used); i++ {
				r := s.set.slab.at(i)
				if r.is(flagDead) || !liveBan(r, now) {
					continue
				}
				l := s.set.labels.at(r.label)
				b := LiveBan{r.key().prefix(), s.set.originOf(r).name, l.jail, r.start, r.until, r.failures, l.shown()}
				if !yield(b) {
					return false
				}
			}
			return first+part < s.set.slab.used
		}
		for first := uint32(1); some(first); {
			first += part
		}
	}
}
