package store

import (
	"math/bits"

	"banmesh/store/text"
)

// rec is a record in memory, without pointers, so that a million of them cost 64 MB and the garbage collector nothing. Rare
// fields are kept in maps by index: floors, lifts, never-bans.
type rec struct {
	hi, lo       uint64
	start, until Millis
	seq          uint64
	log          uint32 // index into set.logs
	label        uint32 // jail and reason, or comment, or the blocked origin
	failures     uint32
	next         uint32 // next record of the same prefix, or next free one
	pos          uint32 // its place in its horizon bucket
	bits         uint8
	kind         Kind
	flags        flags
}

func (r *rec) key() pkey { return pkey{r.hi, r.lo, r.bits} }

func (r *rec) setKey(k pkey) { r.hi, r.lo, r.bits = k.hi, k.lo, k.bits }

type flags uint16

const (
	flagDead    flags = 1 << iota // removed; its place in the log is not freed yet
	flagLifted                    // a lift that counts covers it
	flagExpired                   // its until has passed
	flagOver                      // it exceeds a limit of its origin
	flagCounted                   // it is in its origin's counts of accepted records
	flagFloor                     // it has a floor
	flagForeign                   // a lift of another origin's records
	flagLive                      // it is in its origin's count of live ones
	flagSpace                     // it carries the space of its prefix, see guard
	flagHeld                      // held on this member, see Guard
	flagOwn                       // this member wrote it; being in its log does not prove that
)

func (r *rec) is(f flags) bool { return r.flags&f != 0 }

// A chunk takes 64 KB: most stores hold a few hundred records, and a million of them need a thousand chunks.
const (
	chunkBits = 10
	chunkLen  = 1 << chunkBits
)

// slab holds records in chunks that never move. Index 0 is unused.
type slab struct {
	chunks []*[chunkLen]rec
	used   uint32
	free   uint32
}

func (s *slab) at(i uint32) *rec { return &s.chunks[i>>chunkBits][i&(chunkLen-1)] }

// alloc takes a released record first, so that a store that churns needs no more memory than it
// held at its fullest. The chunks never move, so a *rec stays valid while its record is held.
func (s *slab) alloc() uint32 {
	if i := s.free; i != 0 {
		s.free = s.at(i).next
		*s.at(i) = rec{}
		return i
	}
	if s.used == 0 {
		s.used = 1
	}
	i := s.used
	if int(i>>chunkBits) >= len(s.chunks) {
		s.chunks = append(s.chunks, new([chunkLen]rec))
	}
	s.used = i + 1
	return i
}

// release marks the record dead besides freeing it: its log still has the index until it is tidied,
// and must see that nothing is there.
func (s *slab) release(i uint32) {
	*s.at(i) = rec{next: s.free, flags: flagDead}
	s.free = i
}

// table finds the first record of a prefix: open addressing over slab indexes. The keys are read from the slab.
type table struct {
	slots []uint32
	n     int
	seed  uint64
}

// find looks a prefix up by linear probing. slot is where it stands or would stand, -1 in a table
// without slots; the keys are compared in the slab, so that the table costs 4 bytes a slot.
func (t *table) find(s *slab, k pkey) (slot int, head uint32) {
	if len(t.slots) == 0 {
		return -1, 0
	}
	mask := uint64(len(t.slots) - 1)
	for i := k.hash(t.seed) & mask; ; i = (i + 1) & mask {
		head := t.slots[i]
		if head == 0 {
			return int(i), 0
		}
		if r := s.at(head); r.lo == k.lo && r.hi == k.hi && r.bits == k.bits {
			return int(i), head
		}
	}
}

// insert makes i the first record of its prefix, at the free slot that find has just returned for it.
func (t *table) insert(s *slab, slot int, i uint32) {
	if (t.n+1)*4 > len(t.slots)*3 {
		t.grow(s)
		slot, _ = t.find(s, s.at(i).key())
	}
	t.slots[slot] = i
	t.n++
}

func (t *table) grow(s *slab) { t.resize(s, max(64, 2*len(t.slots))) }

// reserve makes room for n prefixes.
func (t *table) reserve(s *slab, n int) {
	if size := 1 << bits.Len(uint(n+n/3)); size > len(t.slots) {
		t.resize(s, size)
	}
}

// resize gives the table that many slots, a power of two.
func (t *table) resize(s *slab, size int) {
	old := t.slots
	t.slots = make([]uint32, size)
	mask := uint64(len(t.slots) - 1)
	for _, head := range old {
		if head == 0 {
			continue
		}
		i := s.at(head).key().hash(t.seed) & mask
		for t.slots[i] != 0 {
			i = (i + 1) & mask
		}
		t.slots[i] = head
	}
}

// remove empties a slot and moves up the entries that collisions had pushed behind it.
func (t *table) remove(s *slab, slot int) {
	mask := uint64(len(t.slots) - 1)
	hole := uint64(slot)
	for i := (hole + 1) & mask; t.slots[i] != 0; i = (i + 1) & mask {
		home := s.at(t.slots[i]).key().hash(t.seed) & mask
		if (i-home)&mask >= (i-hole)&mask {
			t.slots[hole] = t.slots[i]
			hole = i
		}
	}
	t.slots[hole] = 0
	t.n--
}

// labels keeps each pair of jail and text once.
type labels struct {
	ids  map[label]uint32
	all  []labelEntry
	free []uint32
}

type label struct{ jail, text string }

// shown is the text made safe to display: a hostile author may put control characters into it on the wire.
func (l label) shown() string { return text.Clean(l.text, maxText) }

// labelEntry is a label with how many records have it.
type labelEntry struct {
	label
	refs uint32
}

// acquire and release count uses, as the texts come from other members: without release a member
// could fill the memory with texts of records that are long gone.
func (l *labels) acquire(jail, text string) uint32 {
	k := label{jail, text}
	if id, ok := l.ids[k]; ok {
		l.all[id].refs++
		return id
	}
	if l.ids == nil {
		l.ids = make(map[label]uint32)
	}
	var id uint32
	if n := len(l.free); n > 0 {
		id = l.free[n-1]
		l.free = l.free[:n-1]
	} else {
		id = uint32(len(l.all))
		l.all = append(l.all, labelEntry{})
	}
	l.all[id] = labelEntry{k, 1}
	l.ids[k] = id
	return id
}

func (l *labels) release(id uint32) {
	e := &l.all[id]
	e.refs--
	if e.refs == 0 {
		delete(l.ids, e.label)
		*e = labelEntry{}
		l.free = append(l.free, id)
	}
}

func (l *labels) at(id uint32) label { return l.all[id].label }
