package store

import (
	"encoding/binary"
	"slices"
	"time"
)

// Who holds the gossip key can write under any name. What bears this member's own name in a log that it never began is
// therefore counted and told: nobody but a copy of this member, or somebody who plays it, writes there.

const (
	epochsKey  = "own-epochs"
	foreignKey = "own-foreign"
	// maxEpochs is how many own logs are remembered: a log lives hardly longer than its bans.
	maxEpochs = 4096
	// maxForeign is how many ranges are remembered of what others brought into own logs.
	maxForeign = 4096
	// adoptFor is how long after it was made a store takes logs of the own name for those of the store before it.
	adoptFor = time.Hour
)

// namesake is what is known of the logs that bear the own name. Guarded by Store.mu.
type namesake struct {
	own   []uint64  // epochs that this member drew, oldest first
	until time.Time // up to then others are taken for its own
	made  Millis    // when this store was made, in its first run: no record of an earlier one is younger
	taken []uint64  // epochs that were taken for its own in this run
	dirty bool      // own is to be written with the next own record
	// foreign are the numbers, by epoch, of bans that others brought into the logs of these epochs: the file does not tell them
	// from those that this member wrote.
	foreign map[uint64]rangeSet
	ranges  int  // of foreign
	unsaved bool // foreign is to be written with the records of the next transaction
	// forged is how many records of this run's log were met that this member did not write.
	forged int
}

// loadEpochs reads the epochs of earlier runs and adds this one's.
func (s *Store) loadEpochs() {
	n := &s.namesake
	b, ok := s.meta[epochsKey]
	if !ok {
		n.until = s.cfg.Now().Add(adoptFor)
		n.made = s.now()
	}
	for ; len(b) >= 8; b = b[8:] {
		n.own = append(n.own, binary.BigEndian.Uint64(b))
	}
	if !ok {
		for id := range s.set.byID { // of a version that did not remember
			if id.Origin == s.cfg.Origin && id != s.own.id {
				n.own = append(n.own, id.Epoch)
			}
		}
	}
	n.add(s.own.id.Epoch)
}

func (n *namesake) add(epoch uint64) {
	n.own = append(n.own, epoch)
	if len(n.own) > maxEpochs {
		n.own = slices.Clone(n.own[len(n.own)-maxEpochs:])
	}
	n.dirty = true
}

func (n *namesake) encode() []byte {
	b := make([]byte, 0, 8*len(n.own))
	for _, e := range n.own {
		b = binary.BigEndian.AppendUint64(b, e)
	}
	return b
}

// meetNamesake is told of each new log of the own name. Called with mu held.
func (s *Store) meetNamesake(epoch uint64) {
	n := &s.namesake
	if slices.Contains(n.own, epoch) {
		return
	}
	if s.cfg.Now().Before(n.until) {
		n.add(epoch)
		n.taken = append(n.taken, epoch)
		return
	}
	s.log.Warn("records bear this member's name and are not its own", "epoch", epoch)
}

// brought is told of a ban that was merged into a log of the own name. Called with mu held.
func (s *Store) brought(l *logState, seq uint64) {
	n := &s.namesake
	if !slices.Contains(n.own, l.id.Epoch) || n.foreign[l.id.Epoch].contains(seq) {
		return // nothing of it is taken for this member's anyway
	}
	was := len(n.foreign[l.id.Epoch])
	now := n.foreign[l.id.Epoch].add(seqRange{seq, seq})
	if n.ranges += len(now) - was; n.ranges > maxForeign { // too many to remember: then none of that log is its own after a restart
		n.ranges -= len(now) - 1
		now = rangeSet{{1, maxSeq}}
	}
	if n.foreign == nil {
		n.foreign = make(map[uint64]rangeSet)
	}
	n.foreign[l.id.Epoch], n.unsaved = now, true
}

// encodeForeign writes what others brought into logs that are still remembered.
func (n *namesake) encodeForeign() []byte {
	b := []byte{}
	for e, ranges := range n.foreign {
		if !slices.Contains(n.own, e) {
			continue
		}
		for _, g := range ranges {
			b = binary.BigEndian.AppendUint64(b, e)
			b = binary.BigEndian.AppendUint64(b, g.First)
			b = binary.BigEndian.AppendUint64(b, g.Last)
		}
	}
	return b
}

func (n *namesake) decodeForeign(b []byte) {
	n.foreign = make(map[uint64]rangeSet)
	for ; len(b) >= 24; b = b[24:] {
		e := binary.BigEndian.Uint64(b)
		n.foreign[e] = append(n.foreign[e], seqRange{binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])})
		n.ranges++
	}
}

// ownLoaded marks what this member wrote in earlier runs, before anything is merged.
func (s *Store) ownLoaded() {
	n := &s.namesake
	n.decodeForeign(s.meta[foreignKey])
	for _, l := range s.own.origin.logs {
		if !slices.Contains(n.own, l.id.Epoch) {
			continue
		}
		for _, i := range l.recs {
			if r := s.set.slab.at(i); !n.foreign[l.id.Epoch].contains(r.seq) {
				r.flags |= flagOwn
			}
		}
	}
}

// meetForged is told how many records somebody else has written into the running own log. Called with mu held.
func (s *Store) meetForged(records int) {
	if records == 0 {
		return
	}
	if s.namesake.forged == 0 {
		s.log.Warn("records are in this member's own log that it did not write", "records", records)
	}
	s.namesake.forged += records
}

// Namesakes returns how many logs with how many records bear this member's name although it did not write them: its store was
// restored from an old copy, a copy of it runs elsewhere, or somebody who has the gossip key writes in its name. The log of
// this run is one of them when others have written into it.
func (s *Store) Namesakes() (logs, records int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if n := s.namesake.forged; n > 0 {
		logs, records = 1, n
	}
	o := s.set.origins[s.cfg.Origin]
	if o == nil {
		return logs, records
	}
	for _, l := range o.logs {
		n := len(l.recs) - l.dead
		switch {
		case n == 0 || l == s.own:
			continue
		case !slices.Contains(s.namesake.own, l.id.Epoch):
		case slices.Contains(s.namesake.taken, l.id.Epoch):
			n = s.younger(l)
		default:
			continue
		}
		if n > 0 {
			logs++
			records += n
		}
	}
	return logs, records
}

// younger counts the records of a log taken for the member's own that were written after this store was made: the store
// before it did not write them. Some seconds are left to a clock that was set since.
func (s *Store) younger(l *logState) (n int) {
	for _, i := range l.recs {
		if r := s.set.slab.at(i); !r.is(flagDead) && r.start > s.namesake.made.plus(10*second) {
			n++
		}
	}
	return n
}
