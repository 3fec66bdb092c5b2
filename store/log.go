package store

import (
	"encoding/binary"
	"slices"
)

// logState is what is held of one log.
type logState struct {
	id     LogID
	index  uint32 // in set.logs
	disk   uint32 // its short name in the file
	origin *origin
	recs   []uint32 // by number; removed ones stay, flagged dead, until compact
	dead   int
	held   rangeSet // numbers that need not be asked for: present, replaced, forgotten, or reported gone by a member that held them
	total  uint64   // sum of the hashes of all records
	past   uint64   // sum of the hashes of those that have left the root at the horizon
	salt   []byte   // the log's name as it goes into the hash of its records
	twins  bool     // a number has or had more than one record, see twin.go
}

// newLog makes the salt that each record's hash begins with: the log's name is in the hash and not
// in the record, so that the same record in two logs has two hashes.
func newLog(id LogID, index, disk uint32, o *origin) *logState {
	salt := binary.BigEndian.AppendUint64(append([]byte(id.Origin), 0), id.Epoch)
	return &logState{id: id, index: index, disk: disk, origin: o, salt: salt}
}

// search returns the place of the first record with that number or a later one.
func (l *logState) search(s *slab, seq uint64) int {
	lo, hi := 0, len(l.recs)
	if hi > 0 && s.at(l.recs[hi-1]).seq < seq { // usually the next number
		return hi
	}
	for lo < hi {
		m := (lo + hi) / 2
		if s.at(l.recs[m]).seq < seq {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

// find returns the first record with that number, or 0.
func (l *logState) find(s *slab, seq uint64) uint32 {
	for _, i := range l.recs[l.search(s, seq):] {
		switch r := s.at(i); {
		case r.seq != seq:
			return 0
		case !r.is(flagDead):
			return i
		}
	}
	return 0
}

// insert merges records into the log in one pass. They are sorted by number.
func (l *logState) insert(s *slab, fresh []uint32) {
	if len(fresh) == 0 {
		return
	}
	at := l.search(s, s.at(fresh[0]).seq)
	if at == len(l.recs) {
		if need := len(l.recs) + len(fresh); need > cap(l.recs) && len(l.recs) > 1<<14 {
			l.recs = slices.Grow(l.recs, max(len(fresh), len(l.recs)/8))
		}
		l.recs = append(l.recs, fresh...)
		return
	}
	tail := slices.Clone(l.recs[at:])
	l.recs = l.recs[:at]
	for len(tail) > 0 && len(fresh) > 0 {
		a, b := s.at(tail[0]), s.at(fresh[0])
		switch {
		case a.seq < b.seq:
			l.recs = append(l.recs, tail[0])
			tail = tail[1:]
		case a.seq == b.seq && !a.is(flagDead): // its twin comes behind it
			l.recs = append(l.recs, tail[0])
			tail = tail[1:]
		case a.seq == b.seq: // a dead one makes way for its own return
			s.release(tail[0])
			l.dead--
			tail = tail[1:]
		default:
			l.recs = append(l.recs, fresh[0])
			fresh = fresh[1:]
		}
	}
	l.recs = append(append(l.recs, tail...), fresh...)
}

// compact frees dead records once there are many, so that its cost is spread over the removals that made them.
func (l *logState) compact(s *slab, all bool) {
	if l.dead == 0 || !all && l.dead < 64+len(l.recs)/4 {
		return
	}
	live := l.recs[:0]
	for _, i := range l.recs {
		if s.at(i).is(flagDead) {
			s.release(i)
		} else {
			live = append(live, i)
		}
	}
	l.recs, l.dead = live, 0
	if cap(l.recs) > 1024 && len(l.recs) < cap(l.recs)/2 {
		l.recs = slices.Clone(l.recs)
	}
}
