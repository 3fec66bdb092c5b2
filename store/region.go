package store

import (
	"iter"
	"net/netip"
)

// EffectiveIn yields what Effective does for the prefixes that cover p or lie within it. For a single address, and if few
// prefix lengths occur, it looks the prefixes up; otherwise it costs as much as Effective. The set stays locked for reading
// meanwhile, so the callee must not write to the store. It yields nothing for an invalid prefix or one that covers a whole
// family.
func (s *Store) EffectiveIn(p netip.Prefix) iter.Seq[EffectiveBan] {
	return func(yield func(EffectiveBan) bool) {
		k, err := keyOf(netip.PrefixFrom(p.Addr().Unmap().WithZone(""), p.Bits()).Masked())
		if err != nil {
			return
		}
		s.mu.RLock()
		defer s.mu.RUnlock()
		now := s.now()
		exemptions := s.exemptionsLocked(now)
		var seen sightings
		more := true
		tell := func(_ pkey, head uint32) {
			if !more {
				return
			}
			if e, ok := s.effective(head, now, &seen); ok {
				if e.Pieces = exemptions.pieces(e.Prefix); len(e.Pieces) > 0 {
					more = yield(e)
				}
			}
		}
		s.set.wider(k, tell)
		s.set.within(k, tell)
	}
}

// within calls f with the held prefixes that are k or lie within it, in any order: by looking up every possible one if there
// are fewer of those than prefixes held.
func (s *set) within(k pkey, f func(w pkey, head uint32)) {
	lens := &s.lens[family(k)]
	lookups := 0
	for n := int(k.bits); n <= 128; n++ {
		if lens[n] == 0 {
			continue
		}
		if n-int(k.bits) > 24 {
			lookups = len(s.table.slots)
			break
		}
		lookups += 1 << (n - int(k.bits))
	}
	if lookups >= len(s.table.slots) {
		for _, head := range s.table.slots {
			if head == 0 {
				continue
			}
			if w := s.slab.at(head).key(); k.covers(w) {
				f(w, head)
			}
		}
		return
	}
	for n := int(k.bits); n <= 128; n++ {
		if lens[n] == 0 {
			continue
		}
		w := k
		w.bits = uint8(n)
		step := uint64(1) << ((128 - n) % 64)
		for range 1 << (n - int(k.bits)) {
			if head := s.head(w); head != 0 {
				f(w, head)
			}
			if n <= 64 {
				w.hi += step
			} else if w.lo += step; w.lo < step {
				w.hi++
			}
		}
	}
}
