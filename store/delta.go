package store

import (
	"iter"

	"banmesh/internal/mark"
)

// Head names the own log and its last durable record.
func (s *Store) Head() Head {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return Head{s.own.id, s.headSeq}
}

// Holds reports whether all of a log's numbers up to seq are held.
func (s *Store) Holds(log LogID, seq uint64) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	l := s.set.byID[log]
	return l != nil && l.held.watermark() >= seq
}

// Since returns own durable records after a number as one chunk of at most max bytes, and the number up to which it speaks; nil
// if there are none. A record that alone exceeds max is returned on its own: the caller may leave it to anti-entropy.
func (s *Store) Since(after uint64, max int) (chunk []byte, last uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if after >= s.headSeq {
		return nil, after
	}
	w := chunkWriter{set: s.set, l: s.own, max: max - headerSize(s.own.id, 1)}
	last = w.fill(rangeSet{{after + 1, s.headSeq}}, 0)
	return w.bytes(rangeSet{{after + 1, last}}), last
}

// chunkWriter gathers records of one log up to a size.
type chunkWriter struct {
	set *set
	l   *logState
	max int
	nth int // which of the records of one number it takes, from 0: a chunk has one of each at most
	n   int
	buf []byte
}

// fill takes the records whose number is in want, from the first on, that count at the minute, and returns how far it got: the
// last of want unless the chunk is full. It takes at least one record if there is one, so that a large record cannot stop
// progress.
func (w *chunkWriter) fill(want rangeSet, minute int64) (last uint64) {
	for _, g := range want {
		seq, n := uint64(0), 0 // how many live ones of that number came
		for _, i := range w.l.recs[w.l.search(&w.set.slab, g.First):] {
			r := w.set.slab.at(i)
			if r.seq > g.Last {
				break
			}
			if w.l.twins && !r.is(flagDead) {
				if r.seq != seq {
					seq, n = r.seq, 0
				}
				if n++; n-1 != w.nth {
					continue
				}
			}
			if r.is(flagDead) || leaveMinute(w.set.retained(i)) <= minute {
				continue
			}
			before := len(w.buf)
			w.buf = w.set.encode(w.buf, i)
			if w.n > 0 && len(w.buf) > w.max {
				w.buf = w.buf[:before]
				return r.seq - 1
			}
			w.n++
		}
		last = g.Last
	}
	return last
}

// bytes puts the header before the records, because only then it is known how many there are and up
// to which number they reach.
func (w *chunkWriter) bytes(ranges rangeSet) []byte {
	b := make([]byte, 0, headerSize(w.l.id, len(ranges))+len(w.buf))
	return append(chunkHeader(b, w.l.id, ranges, w.n), w.buf...)
}

// Deltas yields the chunks, of at most max bytes, that the sender of a digest lacks, log by log. If both sides hold the same
// numbers of a log but different content, the log is sent whole. Nothing is locked between chunks, so records that arrive
// meanwhile may or may not be included. A malformed digest yields one *WireError.
func (s *Store) Deltas(b []byte, max int) iter.Seq2[[]byte, error] { return s.deltas(b, max, false) }

// Thorough is Deltas for a peer whose exchanges have not led to equal roots: it sends every log whose content differs whole,
// even if the peer's digest claims more of it. A key holder may have told the peer that numbers are gone that are not; only the
// log's author could tell.
func (s *Store) Thorough(b []byte, max int) iter.Seq2[[]byte, error] { return s.deltas(b, max, true) }

// deltas compares another member's digest with the own logs and yields what that member lacks. A
// log whose numbers agree and whose sum does not is sent whole: one side holds a record that the
// other has replaced or cannot read, and nothing tells which. thorough does so even where the other
// member holds numbers that this one does not.
//
// The lock is not held while a chunk is sent. A log that is forgotten meanwhile simply yields no
// more.
func (s *Store) deltas(b []byte, max int, thorough bool) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		d, err := parseDigest(b)
		if err != nil {
			yield(nil, err)
			return
		}
		s.mu.RLock()
		diff := s.contents(d.minute)
		type lack struct {
			id   LogID
			want rangeSet
		}
		var lacks []lack
		max := min(max, maxChunk)
		// A record that has left the root by both the asker's clock and ours is not worth sending. One clock alone is not
		// believed.
		horizon := min(d.minute, Minute(s.cfg.Now()))
		for _, id := range s.set.sortedLogs() {
			l := s.set.byID[id]
			e, named := d.logs[id.hash()]
			if !named && !d.full {
				continue
			}
			want := l.held.without(e.held)
			if len(want) == 0 && (thorough || l.held.equal(e.held)) && e.sum != l.total-l.past+diff[l.index] {
				want = append(rangeSet(nil), l.held...)
				mark.Reached("store: a log was sent whole")
			}
			if len(want) > 0 {
				lacks = append(lacks, lack{id, want})
			}
		}
		s.mu.RUnlock()
		for _, k := range lacks {
			_, named := d.logs[k.id.hash()]
			for want := k.want; len(want) > 0; {
				var chunk []byte
				chunk, want = s.deltaChunk(k.id, want, horizon, max, 0, !named)
				if chunk != nil && !yield(chunk, nil) {
					return
				}
			}
			nth := 1
			for twins := s.twins(k.id, k.want, nth); len(twins) > 0; twins = s.twins(k.id, twins, nth) {
				for want := twins; len(want) > 0; {
					var chunk []byte
					chunk, want = s.deltaChunk(k.id, want, horizon, max, nth, true)
					if chunk != nil && !yield(chunk, nil) {
						return
					}
				}
				nth++
			}
		}
	}
}

// deltaChunk returns one chunk of what is wanted of a log, and what remains wanted. A chunk without records only helps a peer
// that already holds the log: it tells which numbers are gone.
func (s *Store) deltaChunk(id LogID, want rangeSet, horizon int64, max, nth int, absent bool) ([]byte, rangeSet) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	l := s.set.byID[id]
	if l == nil {
		return nil, nil
	}
	speak := want
	if limit := maxChunkRanges / 2; len(speak) > limit {
		speak = speak[:limit]
	}
	if fits := max / 64; len(speak) > fits+1 {
		speak = speak[:fits+1]
	}
	w := chunkWriter{set: s.set, l: l, max: max - headerSize(id, len(speak)), nth: nth}
	last := w.fill(speak, horizon)
	rest := want.clip(last+1, maxSeq)
	if w.n == 0 && absent {
		return nil, rest
	}
	return w.bytes(want.clip(speak[0].First, last)), rest
}

// twins are the numbers among those wanted of a log that more than n records have.
func (s *Store) twins(id LogID, want rangeSet, n int) rangeSet {
	s.mu.RLock()
	defer s.mu.RUnlock()
	l := s.set.byID[id]
	if l == nil {
		return nil
	}
	return s.set.twinsIn(l, want, n)
}
