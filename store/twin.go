package store

import "bytes"

// A log is written by its author alone, so two records with the same number are not both the author's: somebody who has the
// gossip key has written one of them, or the author runs twice, put back to an earlier state of its memory. No member can tell
// which one is true. If the first to arrive were kept, an attacker who wrote the numbers to come before their time would keep the
// author's own records from counting. So both are kept, wherever they arrive in whatever order: they are records like all others,
// within the limits of their origin. The file holds one of them; the other one comes back from the peers after a restart,
// since the sums of the log differ.

// has reports whether the log has this very record.
func (s *set) has(l *logState, it *item) bool {
	if l.find(&s.slab, it.seq) == 0 {
		return false
	}
	enc := it.enc
	if enc == nil {
		enc = it.append(nil)
	}
	var b []byte
	for _, i := range l.recs[l.search(&s.slab, it.seq):] {
		r := s.slab.at(i)
		if r.seq != it.seq {
			break
		}
		if r.is(flagDead) {
			continue
		}
		if b = s.encode(b[:0], i); bytes.Equal(b, enc) {
			return true
		}
	}
	return false
}

// twinsIn returns the numbers of the ranges that more than one record has.
func (s *set) twinsIn(l *logState, in rangeSet) (out rangeSet) {
	if l.twins == 0 {
		return nil
	}
	for _, g := range in {
		last := uint64(0)
		for _, i := range l.recs[l.search(&s.slab, g.First):] {
			r := s.slab.at(i)
			if r.seq > g.Last {
				break
			}
			if r.is(flagDead) {
				continue
			}
			if r.seq == last {
				out = out.add(seqRange{r.seq, r.seq})
			}
			last = r.seq
		}
	}
	return out
}
