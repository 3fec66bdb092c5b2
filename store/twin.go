package store

import "bytes"

// A log is written by its author alone, so two records with the same number are not both the author's: somebody who has the
// gossip key has written one of them, or the author runs twice, put back to an earlier state of its memory. No member can tell
// which one is true. If the first to arrive were kept, an attacker who wrote the numbers to come before their time would keep the
// author's own records from counting. So both are kept, wherever they arrive in whatever order: they are records like all others,
// within the limits of their origin. The file holds one of them; the other one comes back from the peers after a restart,
// since the sums of the log differ.

// maxTwins is how many records of one number are kept. Every further one would cost a comparison with all of them, and a
// chunk of its own. Filling the numbers to come takes that many records each, all within the limits of their origin.
const maxTwins = 32

// sameNumber counts the records with the number of an item, and reports whether one of them is that very record.
func (s *set) sameNumber(l *logState, it *item) (n int, has bool) {
	enc := it.enc
	var b []byte
	for _, i := range l.recs[l.search(&s.slab, it.seq):] {
		r := s.slab.at(i)
		if r.seq != it.seq {
			break
		}
		if r.is(flagDead) {
			continue
		}
		if enc == nil {
			enc = it.append(nil)
		}
		if b = s.encode(b[:0], i); bytes.Equal(b, enc) {
			return n, true
		}
		n++
	}
	return n, false
}

// twinsIn returns the numbers of the ranges that more than n records have.
func (s *set) twinsIn(l *logState, in rangeSet, n int) (out rangeSet) {
	if !l.twins {
		return nil
	}
	for _, g := range in {
		seq, have := uint64(0), 0
		for _, i := range l.recs[l.search(&s.slab, g.First):] {
			r := s.slab.at(i)
			if r.seq > g.Last {
				break
			}
			if r.is(flagDead) {
				continue
			}
			if r.seq != seq {
				seq, have = r.seq, 0
			}
			if have++; have == n+1 {
				out = out.add(seqRange{seq, seq})
			}
		}
	}
	return out
}

// successor is the record, encoded, that takes the place in the file of one that was removed. Called with mu held.
func (s *Store) successor(r removal) []byte {
	if !r.log.twins {
		return nil
	}
	i := r.log.find(&s.set.slab, r.seq)
	if i == 0 {
		return nil
	}
	if t := s.set.slab.at(i); t.kind == KindBan && r.log.origin == s.own.origin && !t.is(flagOwn) {
		s.brought(r.log, r.seq)
	}
	return s.set.encode(nil, i)
}
