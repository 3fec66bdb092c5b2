package store

import (
	"container/heap"
	"net/netip"
	"slices"
)

// set is the whole replicated set in memory. It knows no locks, no disk and no clock: Store gives it those.
type set struct {
	self   string
	limits Limits
	now    Millis // every expiry up to then has been handled
	agree  bool   // the own clock agrees with the peers': records past their retention may be refused and forgotten

	slab    slab
	table   table
	labels  labels
	logs    []*logState // by rec.log; 0 is unused, nil was forgotten
	freeLog []uint32
	byID    map[LogID]*logState
	disks   uint32 // last short name given to a log in the file
	own     *logState
	origins map[string]*origin
	records int
	over    int             // records flagged flagOver
	size    int             // of all stored records, in units
	bare    int             // records without prefix
	members map[string]bool // origins whose records may count; nil: all

	floors map[uint32]Millis
	lifts  map[uint32]*liftBody
	never  map[uint32][]netip.Prefix
	gones  map[uint32][]goneRange
	allows allowBook
	placed map[uint32]struct{}
	lens   [2][129]int // how many prefixes of each length there are, IPv6 and IPv4

	hz      horizon
	control control
	guard   guardBook
	dirty   []*origin // origins whose limits must be evaluated again
	touched map[*logState]struct{}
	spent   []uint32 // lifts that a Gone names, to be looked at by removeSpent
	// awaiting are such lifts that cover nothing yet. Removed ones may be among them.
	awaiting []uint32

	quiet   bool // while loading: no events
	events  int  // how many a change may hold; 0: nobody listens
	mute    bool // while an own lift is applied whose notices were written with it
	out     effects
	scratch []byte
}

// effects are what a change requires outside the set.
type effects struct {
	events  []Event
	more    int
	notices []Notice
	removed []removal // records to delete from the file
	gone    []uint32  // logs to delete from the file
}

// removal is a record that must go from the file with the next transaction.
type removal struct {
	log *logState
	seq uint64
}

// Bounds of the events of one change: those that every reader gets, and those beyond them for a reader that wants all.
const (
	maxEvents = 10_000
	maxRest   = 100_000
)

// newSet makes an empty set. Index 0 of logs stays unused, as in the slab, so that 0 can mean none.
// The seed keeps others from choosing prefixes that collide in the table.
func newSet(self string, limits Limits, seed uint64) *set {
	return &set{
		self: self, limits: limits, logs: make([]*logState, 1), byID: make(map[LogID]*logState), origins: make(map[string]*origin),
		floors: make(map[uint32]Millis), lifts: make(map[uint32]*liftBody), never: make(map[uint32][]netip.Prefix), gones: make(map[uint32][]goneRange),
		allows: newAllowBook(), placed: make(map[uint32]struct{}), touched: make(map[*logState]struct{}),
		table: table{seed: seed}, guard: guardBook{held: make(map[uint32]bool)},
	}
}

// emit keeps at most s.events events for one change: a merge of a million bans must not hold a
// million events. The rest is counted, and readers are told that there was more.
func (s *set) emit(e Event) {
	if s.quiet || s.events == 0 {
		return
	}
	if len(s.out.events) >= s.events {
		s.out.more++
		return
	}
	e.Time = s.now
	s.out.events = append(s.out.events, e)
}

// expect makes room for the events of n records.
func (s *set) expect(n int) {
	s.out.events = slices.Grow(s.out.events, min(n, max(0, s.events-len(s.out.events))))
}

// tell queues a notice for the local fail2ban.
func (s *set) tell(n Notice) {
	if !s.quiet && !(s.mute && n.Kind == NoticeUnban) {
		s.out.notices = append(s.out.notices, n)
	}
}

// log returns the log of that name and makes it if it is missing.
func (s *set) log(id LogID) *logState {
	if l := s.byID[id]; l != nil {
		return l
	}
	s.disks++
	return s.restoreLog(id, s.disks)
}

// restoreLog uses a free index again, since indexes are stored in every record; nothing of the log
// that had it is left by then.
func (s *set) restoreLog(id LogID, disk uint32) *logState {
	s.disks = max(s.disks, disk)
	index := uint32(len(s.logs))
	if n := len(s.freeLog); n > 0 {
		index = s.freeLog[n-1]
		s.freeLog = s.freeLog[:n-1]
	} else {
		s.logs = append(s.logs, nil)
	}
	l := newLog(id, index, disk, s.origin(id.Origin))
	l.origin.logs = append(l.origin.logs, l)
	s.logs[index] = l
	s.byID[id] = l
	return l
}

// dropLog forgets a log without records. The own one is kept, because its numbers must go on.
func (s *set) dropLog(l *logState) {
	l.compact(&s.slab, true)
	s.logs[l.index] = nil
	s.freeLog = append(s.freeLog, l.index)
	delete(s.byID, l.id)
	l.origin.drop(l)
	s.dropOrigin(l.origin)
	s.out.gone = append(s.out.gone, l.disk)
}

// dropOrigin forgets an origin without logs, unless a Block must be able to find it.
func (s *set) dropOrigin(o *origin) {
	if len(o.logs) == 0 && (!o.blocked || o.unlisted) {
		delete(s.origins, o.name)
	}
}

// item returns record i as it was received.
func (s *set) item(i uint32) item {
	r := s.slab.at(i)
	l := s.labels.at(r.label)
	it := item{seq: r.seq, kind: r.kind, key: r.key(), start: r.start, until: r.until, failures: r.failures, jail: l.jail, text: l.text}
	if r.is(flagFloor) {
		it.floor = s.floors[i]
	}
	switch r.kind {
	case KindLift:
		it.lift = s.lifts[i]
	case KindNeverBan:
		it.prefixes = s.never[i]
	case KindGone:
		it.gone = s.gones[i]
	}
	return it
}

// encode appends the canonical encoding of record i.
func (s *set) encode(b []byte, i uint32) []byte {
	it := s.item(i)
	return it.append(b)
}

// hash is for writers only, because it uses the set's scratch space. Readers use hashInto.
func (s *set) hash(i uint32) sum {
	var h sum
	h, s.scratch = s.hashInto(s.scratch, i)
	return h
}

// hashInto hashes a stored record with the caller's buffer, which it returns, perhaps grown.
func (s *set) hashInto(scratch []byte, i uint32) (sum, []byte) {
	scratch = append(scratch[:0], s.logs[s.slab.at(i).log].salt...)
	scratch = s.encode(scratch, i)
	return hashRecord(scratch), scratch
}

// retained is until when record i must be kept.
func (s *set) retained(i uint32) Millis {
	r := s.slab.at(i)
	switch {
	case r.kind == KindLift:
		return s.lifts[i].retain
	case r.is(flagFloor):
		return max(r.until, s.floors[i])
	}
	return r.until
}

func (s *set) originOf(r *rec) *origin { return s.logs[r.log].origin }

// head returns the first record of a prefix, 0 if there is none. The others follow by rec.next.
func (s *set) head(k pkey) uint32 {
	_, head := s.table.find(&s.slab, k)
	return head
}

// result is what became of an item.
type result uint8

const (
	// added is the zero value: acceptable returns it for an item that nothing speaks against.
	added result = iota
	known
	superseded
	forgotten // past its retention: not kept
	refused   // not kept and not marked as held: it may come again
)

// Bounds of the chains that every look-up of a prefix walks: of one origin, and of all together. Beyond the latter an origin
// may still have a few. Records without prefix share one chain and get more.
const (
	maxChain         = 256
	maxChainAll      = 2048
	maxChainFew      = 4
	maxChainNoPrefix = 4096
	maxNoPrefixAll   = 8192
	maxNoPrefixFew   = 16
)

// crowded reports whether the chain of a prefix has no place for another record of an origin.
func (s *set) crowded(o *origin, k pkey, c chainCount) bool {
	if k == noPrefix {
		return o.bare >= maxChainNoPrefix || s.bare >= maxNoPrefixAll && o.bare >= maxNoPrefixFew
	}
	return c.origin >= maxChain || c.all >= maxChainAll && c.origin >= maxChainFew
}

// full reports whether there is no room for another record of an origin: it has reached its own limit, or the limit for all is
// reached and it has its share.
func (s *set) full(o *origin) bool {
	l := &s.limits
	if l.StoredPerOrigin > 0 && o.size >= l.StoredPerOrigin {
		return true
	}
	return l.Stored > 0 && s.size >= l.Stored && o.size >= share(l.Stored, l.origins)
}

// mayOpen reports whether there is room for another log of the named origin.
func (s *set) mayOpen(name string) bool {
	l, o := &s.limits, s.origins[name]
	if o == nil {
		return l.origins == 0 || len(s.origins) < l.origins || name == s.self
	}
	return l.logs == 0 || len(s.byID) < l.logs || len(o.logs) < share(l.logs, l.origins)
}

// share is what each of n origins may have of all, whatever the others have.
func share(all, n int) int {
	if n == 0 {
		return 0
	}
	return all / n
}

// add takes one record into the set. The caller puts index into the log's order (logState.insert), for a Gone before the call,
// marks its number as held, and calls finish after the last one. Records that this member has just written (mine) are on disk
// and acknowledged, and passed the bounds before.
func (s *set) add(l *logState, it *item, mine bool) (index uint32, res result) {
	twins, gone, res := s.acceptable(l, it, mine)
	if res != added {
		return 0, res
	}
	o, head := l.origin, s.head(it.key)
	retain := it.retained()
	if it.kind == KindLift {
		it.lift.enter(it.start)
		retain = s.liftRetention(it.lift, it.until, head)
	}
	// A peer may keep a lift for a ban that comes after it. Take it in: forget deletes it if that ban does not come.
	if s.agree && retain.plus(forgetAfter) <= s.now && it.kind != KindLift {
		return 0, forgotten
	}
	var room [4]uint32
	old, replaced, chain := s.replaced(room[:0], l, it, retain, head)
	if replaced {
		return 0, superseded
	}
	// The file may hold more Gones than are kept now: a version without that bound wrote it, and what they withdraw would come back.
	crowded := s.crowded(o, it.key, chain) || it.kind == KindGone && o.gones >= maxGones && !s.quiet
	// One that replaces others makes no chain longer.
	if !mine && len(old) == 0 && crowded {
		return 0, refused
	}
	wasLive := false
	if it.kind != KindLift && it.kind != KindGone {
		// Lifts and Gones are replaced below, once the new one says what they said: nothing may come to life in
		// between.
		for _, i := range old {
			r := s.slab.at(i)
			wasLive = wasLive || !r.is(flagLifted) && r.until > s.now
			s.remove(i)
		}
	}
	index, head = s.put(l, it)
	// From now on the order of this log needs a look at the content, see compareRecords.
	l.twins = l.twins || twins > 0
	if mine {
		s.slab.at(index).flags |= flagOwn
	}
	switch it.kind {
	case KindBan:
		s.addedBan(index, head, wasLive)
	case KindLift:
		s.lifts[index].retain = retain
		if gone {
			s.spent = append(s.spent, index)
		}
		s.addedLift(index, head, old)
	case KindGone:
		s.admit(index)
	default:
		s.addedOther(index, head, wasLive)
	}
	s.count(index, l, it)
	if it.kind == KindGone {
		s.addedGone(index, old)
	}
	return index, added
}

// acceptable is what the log and its origin alone say of an item, before the other records of its prefix are looked at: added if
// nothing is against it. twins is how many records of the same number the log holds, gone whether the origin withdrew the
// item: only a lift that is still needed is taken then.
func (s *set) acceptable(l *logState, it *item, mine bool) (twins int, gone bool, res result) {
	twins, has := s.sameNumber(l, it)
	if has {
		return twins, false, known
	}
	o := l.origin
	if it.kind == KindGone {
		if it.namesWhatComes(l) {
			return twins, false, superseded
		}
		s.gone(o) // without the new one
	}
	gone = o.gones > 0 && it.withdrawable() && s.gone(o)[l.id.Epoch].contains(it.seq)
	if gone && !(it.kind == KindLift && (s.quiet || s.needed(it.lift, it.key))) { // while loading, what it covers may follow
		return twins, gone, superseded
	}
	// A record from the future is refused even if the clock does not agree with the peers' yet, as after a start: otherwise
	// nothing would refuse it then, and a refused record comes again. What the file holds is taken already.
	if !mine && (s.full(o) || twins >= maxTwins || !s.quiet && it.liftsAhead(s.now)) {
		return twins, gone, refused
	}
	return twins, gone, added
}

// count adds a new record to the root and to what its origin stores.
func (s *set) count(i uint32, l *logState, it *item) {
	if it.enc == nil {
		s.enter(i, s.hash(i))
		s.weigh(l.origin, units(len(s.scratch)-len(l.salt)))
		return
	}
	// As it was received, which saves encoding it again.
	s.scratch = append(append(s.scratch[:0], l.salt...), it.enc...)
	s.enter(i, hashRecord(s.scratch))
	s.weigh(l.origin, units(len(it.enc)))
}

// weigh keeps both sums of what is stored, an origin's and that of all; n is in units and may be
// negative.
func (s *set) weigh(o *origin, n int) {
	o.size += n
	s.size += n
}

// chainCount is how many records a prefix has.
type chainCount struct{ origin, all int }

// replaced returns the records that the item replaces, or reports that one of them replaces the item. It also counts the
// records of the prefix.
func (s *set) replaced(old []uint32, l *logState, it *item, retain Millis, head uint32) (_ []uint32, replaced bool, chain chainCount) {
	for c := head; c != 0; {
		r := s.slab.at(c)
		chain.all++
		if s.originOf(r) == l.origin {
			chain.origin++
			switch by, ok := s.replaces(l, it, retain, c); {
			case ok && by > 0:
				old = append(old, c)
			case ok:
				replaced = true
			}
		}
		c = r.next
	}
	return old, replaced, chain
}

// put stores the item and links it to its prefix, whose first record it also returns.
func (s *set) put(l *logState, it *item) (i, head uint32) {
	i = s.slab.alloc()
	r := s.slab.at(i)
	r.setKey(it.key)
	r.kind, r.seq, r.log = it.kind, it.seq, l.index
	r.start, r.until, r.failures = it.start, it.until, it.failures
	r.label = s.labels.acquire(it.jail, it.text)
	if it.floor > it.until {
		r.flags |= flagFloor
		s.floors[i] = it.floor
	}
	switch it.kind {
	case KindLift:
		body := *it.lift
		s.lifts[i] = &body
	case KindNeverBan:
		s.never[i] = it.prefixes
	case KindGone:
		s.gones[i] = it.gone
		if l.origin.gones++; l.origin.gone == nil {
			l.origin.gone = make(map[uint64]rangeSet)
		}
	case KindAllow:
		s.allows.add(it.key, i)
		s.control.exemptionsVersion++ // even if it has ended: the clock may have stepped back since set.now
	case KindPlaced:
		s.placed[i] = struct{}{}
	}
	if r.until <= s.now {
		r.flags |= flagExpired
	} else if r.is(flagFloor) {
		heap.Push(&s.hz.early, earlyEntry{r.until, r.seq, i})
	}
	slot, head := s.table.find(&s.slab, it.key)
	if head == 0 {
		head = i
		s.table.insert(&s.slab, slot, i)
		if it.key != noPrefix {
			s.lens[family(it.key)][it.key.bits]++
		}
	} else {
		h := s.slab.at(head)
		// Behind the first, so that the table need not change.
		r.next, h.next = h.next, i
	}
	l.origin.records++
	s.records++
	if it.key == noPrefix {
		l.origin.bare++
		s.bare++
	}
	s.touched[l] = struct{}{}
	return i, head
}

// family indexes the arrays of two: 0 is IPv6, 1 is IPv4.
func family(k pkey) int {
	if k.is4() {
		return 1
	}
	return 0
}

// remove takes record i out of the set. compact frees its place in the log later.
func (s *set) remove(i uint32) {
	r := s.slab.at(i)
	l := s.logs[r.log]
	retain := s.retained(i)
	s.dismiss(i)
	s.leave(i, s.hash(i))
	s.weigh(l.origin, -units(len(s.scratch)-len(l.salt)))
	if r.key() == noPrefix {
		l.origin.bare--
		s.bare--
	}

	slot, head := s.table.find(&s.slab, r.key())
	switch {
	case head != i:
		p := s.slab.at(head)
		for p.next != i {
			p = s.slab.at(p.next)
		}
		p.next = r.next
	case r.next != 0:
		s.table.slots[slot] = r.next
	default:
		s.table.remove(&s.slab, slot)
		if k := r.key(); k != noPrefix {
			s.lens[family(k)][k.bits]--
		}
	}
	if r.kind != KindLift {
		s.lowerLifts(i, retain)
		s.noteSpent(i)
	}
	s.forgetSides(i)
	if r.kind == KindGone {
		l.origin.gones--
		l.origin.goneStale = true
	}
	r.flags |= flagDead
	l.dead++
	l.origin.records--
	s.records--
	s.labels.release(r.label)
	s.touched[l] = struct{}{}
	s.out.removed = append(s.out.removed, removal{l, r.seq})
}

// forgetSides removes what a record has beside the slab. Whatever put adds to a map must be removed
// here, or the next record that gets the index inherits it.
func (s *set) forgetSides(i uint32) {
	r := s.slab.at(i)
	if r.is(flagFloor) {
		delete(s.floors, i)
	}
	switch r.kind {
	case KindLift:
		delete(s.lifts, i)
	case KindNeverBan:
		delete(s.never, i)
		s.control.dirty = true
	case KindGone:
		delete(s.gones, i)
	case KindAllow:
		s.allows.remove(r.key(), i)
		s.control.exemptionsVersion++
	case KindPlaced:
		delete(s.placed, i)
	case KindFreeze, KindBlock:
		s.control.dirty = true
	}
}

// finish ends a change: it applies limits and blocks, and drops logs that became empty.
func (s *set) finish() {
	s.removeSpent()
	var later []*origin
	for len(s.dirty) > 0 || s.control.dirty {
		if s.control.dirty {
			s.control.dirty = false
			s.reblock()
			continue
		}
		o := s.dirty[len(s.dirty)-1]
		s.dirty = s.dirty[:len(s.dirty)-1]
		if !s.judge(o) {
			later = append(later, o)
		}
	}
	// Those judged a moment ago wait for the next change or tick.
	s.dirty = append(s.dirty, later...)
	for l := range s.touched {
		l.compact(&s.slab, false)
		if l.dead == len(l.recs) && l != s.own {
			s.dropLog(l)
		}
	}
	clear(s.touched)
}
