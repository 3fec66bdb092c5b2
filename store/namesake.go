package store

import (
	"encoding/binary"
	"slices"
	"time"
)

// Anybody with the gossip key can write under any name. Logs that bear this member's own name and that it never began are
// therefore counted and reported: either a copy of this member runs somewhere, or somebody impersonates it.

const (
	epochsKey  = "own-epochs"
	foreignKey = "own-foreign"
	// maxEpochs is how many own logs are remembered: a log outlives its bans only briefly.
	maxEpochs = 4096
	// maxForeign is how many ranges are remembered of what others brought into own logs.
	maxForeign = 4096
	// adoptFor is how long after its creation a store takes logs under its own name for those of the store before it.
	adoptFor = time.Hour
)

// namesake tracks the logs that bear the own name. Guarded by Store.mu.
type namesake struct {
	own   []uint64  // epochs that this member drew, oldest first
	until time.Time // until then unknown logs under the own name are adopted
	made  Millis    // when this store was made: no record of an earlier store is younger
	taken []uint64  // epochs adopted in this run
	dirty bool      // own must be written with the next own record
	// foreign holds, by epoch, the numbers of bans that others brought into the logs of these epochs: the file does not
	// distinguish them from those that this member wrote.
	foreign map[uint64]rangeSet
	ranges  int  // how many ranges foreign has
	unsaved bool // foreign must be written with the records of the next transaction
	// forged counts the records of this run's log that this member did not write; beyond is how many of them it was sent at once
	// with numbers that it has not come to yet.
	forged, beyond int
}

// loadEpochs reads the epochs of earlier runs and adds this run's.
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
		for id := range s.set.byID { // written by a version that did not remember epochs
			if id.Origin == s.cfg.Origin && id != s.own.id {
				n.own = append(n.own, id.Epoch)
			}
		}
	}
	n.add(s.own.id.Epoch)
}

// add remembers an epoch of this member, and has the list written with the next own record.
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

// meetNamesake is called for each new log under the own name. Called with mu held.
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

// brought is called for a ban that was merged into a log under the own name. Called with mu held.
func (s *Store) brought(l *logState, seq uint64) {
	n := &s.namesake
	if !slices.Contains(n.own, l.id.Epoch) || n.foreign[l.id.Epoch].contains(seq) {
		return // nothing of that log is taken for this member's anyway
	}
	was := len(n.foreign[l.id.Epoch])
	now := n.foreign[l.id.Epoch].add(seqRange{seq, seq})
	if n.ranges += len(now) - was; n.ranges > maxForeign { // too many to remember: after a restart, nothing of that log counts as its own
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

// decodeForeign reads 24 bytes for each range: epoch, first, last.
func (n *namesake) decodeForeign(b []byte) {
	n.foreign = make(map[uint64]rangeSet)
	for ; len(b) >= 24; b = b[24:] {
		e := binary.BigEndian.Uint64(b)
		n.foreign[e] = append(n.foreign[e], seqRange{binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])})
		n.ranges++
	}
}

// ownLoaded marks what this member wrote in earlier runs. It runs before anything is merged.
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

// meetForged counts the records that somebody else has written into this run's own log. Called with mu held.
func (s *Store) meetForged(records, beyond int) {
	n := &s.namesake
	if records+beyond == 0 {
		return
	}
	if n.forged+n.beyond == 0 {
		s.log.Warn("records are in this member's own log that it did not write", "records", records+beyond)
	}
	n.forged += records
	n.beyond = max(n.beyond, beyond) // they are not taken, and come again
}

// Namesakes returns how many logs, with how many records, bear this member's name although it did not write them: its store was
// restored from an old copy, a copy of it runs elsewhere, or somebody with the gossip key writes in its name. This run's log is
// one of them if others have written into it.
func (s *Store) Namesakes() (logs, records int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if n := s.namesake.forged + s.namesake.beyond; n > 0 {
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

// younger counts the records of an adopted log that were written after this store was made, and so not by the store before it.
// It allows some seconds for a clock that was set since.
func (s *Store) younger(l *logState) (n int) {
	for _, i := range l.recs {
		if r := s.set.slab.at(i); !r.is(flagDead) && r.start > s.namesake.made.plus(10*second) {
			n++
		}
	}
	return n
}
