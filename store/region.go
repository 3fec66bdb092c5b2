package store

import (
	"iter"
	"net/netip"
)

// EffectiveIn yields what Effective does, of the prefixes that cover p or lie within it. For a single address, and
// where few lengths occur, it looks up the prefixes; else it costs as much as Effective. The set is locked for reading
// meanwhile: the callee must not write to the store. Nothing is yielded for what is no prefix or covers a whole family.
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
				if e.Pieces = pieces(e.Prefix, exemptions); len(e.Pieces) > 0 {
					more = yield(e)
				}
			}
		}
		s.set.wider(k, tell)
		s.set.within(k, tell)
	}
}

// within calls f with the prefixes held that are k or lie within it, in no order: by a look-up of each that can be,
// where those are fewer than the prefixes held.
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
