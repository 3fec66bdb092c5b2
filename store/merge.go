package store

// Merged counts what became of a chunk's records.
type Merged struct {
	Log        LogID
	Last       uint64 // the highest number that the chunk covers; 0 for none
	New        int
	Known      int // held already, or past their retention
	superseded int // replaced by a newer one of the same log
	Refused    int // not taken and not marked as held: a kind of a newer version, or over a bound against floods
	Unreadable int // not taken and not marked as held, see Store.Unreadable
}

// Merge takes in a chunk. Its records are visible when it returns. They reach the disk, with the held ranges of their log, in
// one of the next transactions. Merge waits while too much waits for a working disk, and at most 5 s for a disk that has
// stopped answering.
//
// Records are only added. A record is refused if a newer one of its log replaces it, or if it is past its retention by a clock
// that agrees with the peers'. The ranges that the chunk covers are added to those held. A record of a kind that this version
// does not know is not marked as held, so that it comes again after an upgrade. An unreadable record is set aside likewise, and
// the others count. Bytes that are not a chunk change nothing and return *WireError.
func (s *Store) Merge(b []byte) (Merged, error) {
	c, err := parseChunk(b)
	if err != nil {
		return Merged{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.pending.bytes > maxPending && s.health == nil && !s.closed {
		if s.silent { // nobody knows how long that lasts
			s.postpone(&pending{})
			break
		}
		s.room.Wait()
	}
	if s.closed {
		return Merged{}, ErrClosed
	}
	return s.merge(c)
}

// merge takes the records of a chunk into the set and leaves what must be written to s.pending.
// Called with mu held, for writing.
//
// A number is marked as held if its record was taken, was known, or is gone, so that it is not
// asked for again. A refused or unreadable record is not held: it comes again, and may be taken
// then. A chunk that would make too many holes is refused whole, before any of its records is
// taken.
func (s *Store) merge(c *chunk) (Merged, error) {
	m := Merged{Log: c.log, Last: c.ranges.last(), Refused: c.unknown, Unreadable: len(c.bad)}
	for _, b := range c.bad {
		s.setAside(Dot{c.log, b.seq}, b.reason, false)
	}
	if c.log == s.own.id {
		return s.takeBack(c), nil
	}
	set := s.set
	l := set.byID[c.log]
	if l == nil {
		if len(c.items) == 0 {
			return m, nil // the chunk only tells that all of it is gone: nothing to remember
		}
		if !set.mayOpen(c.log.Origin) {
			m.Refused += len(c.items)
			return m, nil
		}
		l = set.log(c.log)
		if c.log.Origin == s.cfg.Origin {
			s.meetNamesake(c.log.Epoch)
		}
		set.touched[l] = struct{}{}
	}
	held := append(rangeSet(nil), l.held...).union(c.ranges.without(c.not))
	if len(held) > maxHeldRanges {
		set.finish()
		s.collect()
		return Merged{}, &WireError{"too many holes in a log"}
	}
	var not rangeSet
	fresh := make([]uint32, 0, len(c.items))
	for i := range c.items {
		it := &c.items[i]
		if it.kind == KindGone { // it removes records of the log, including those of this chunk
			l.insert(&set.slab, fresh)
			fresh = fresh[:0]
		}
		index, res := set.add(l, it, false)
		switch res {
		case added:
			m.New++
			fresh = append(fresh, index)
			s.keep(l, it)
			delete(s.unreadable, Dot{c.log, it.seq}) // the file had only a damaged copy of it
		case known, forgotten:
			m.Known++
		case superseded:
			m.superseded++
		case refused:
			m.Refused++
			not = not.add(seqRange{it.seq, it.seq})
		}
	}
	l.insert(&set.slab, fresh)
	if len(not) > 0 {
		held = held.without(not.without(l.held))
	}
	if m.New > 0 || !held.equal(l.held) {
		l.held = held
		s.pending.head(l)
		set.recheckAwaiting()
	}
	set.finish()
	s.collect()
	return m, nil
}

// takeBack merges records of this run's own log that come back from peers. Nobody else writes to that log. A Lift that this
// member no longer holds may be its own: it forgot the Lift, and others keep it for a ban that this member had not seen.
// Records of other kinds are never forgotten early, and nothing was written beyond the head, so those are forged. Forged ones
// are taken in nevertheless, within the bounds for others' records, so that all members hold the same.
func (s *Store) takeBack(c *chunk) Merged {
	m := Merged{Log: c.log, Last: c.ranges.last(), Refused: c.unknown, Unreadable: len(c.bad)}
	forged, beyond := 0, 0
	fresh := make([]uint32, 0, len(c.items))
	for i := range c.items {
		it := &c.items[i]
		if it.seq > s.headSeq {
			m.Refused++
			beyond++
			continue
		}
		if it.kind == KindGone {
			s.own.insert(&s.set.slab, fresh)
			fresh = fresh[:0]
		}
		switch index, res := s.set.add(s.own, it, false); res {
		case added:
			m.New++
			fresh = append(fresh, index)
			twin := s.keep(s.own, it)
			if (twin || it.kind != KindLift) && it.retained().plus(forgetAfter) > s.set.now {
				forged++
			}
		case superseded:
			m.superseded++
		case refused:
			m.Refused++
		default:
			m.Known++
		}
	}
	s.meetForged(forged, beyond)
	s.own.insert(&s.set.slab, fresh)
	s.set.finish()
	s.collect()
	return m
}

// keep queues a merged record for the file, which has one of each number: if it has a twin already, that one stays there.
func (s *Store) keep(l *logState, it *item) (twin bool) {
	if l.find(&s.set.slab, it.seq) != 0 {
		return true
	}
	s.pending.put(l, it.seq, it.enc)
	if it.kind == KindBan && l.origin == s.own.origin {
		s.brought(l, it.seq)
	}
	return false
}
