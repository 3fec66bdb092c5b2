package commit

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"banmesh/mesh/conductor"
	"banmesh/store"
)

// memory is what a member has seen in running. It is not durable: a member that has just started takes an absent placed prefix
// for one whose commit failed, and a foreign one for new.
type memory struct {
	valid   bool
	at      time.Time
	running []netip.Prefix
	present map[netip.Prefix]struct{}

	// absent are the placed prefixes that the last reading lacked, with their leases: a prefix placed since may be there by
	// now.
	absent map[netip.Prefix]store.Millis

	// seen are the placed prefixes that have been in running, with their leases at that time.
	seen map[netip.Prefix]store.Millis

	// ours are the placed prefixes that are in running, by this member's own commit or for longer than an edit takes, with
	// their last leases. They stay ours without a record for as long as they are there.
	ours map[netip.Prefix]store.Millis

	byHand  map[netip.Prefix]handRemoval
	foreign map[netip.Prefix]sighting
	unused  map[netip.Prefix]time.Time    // placed, but neither wanted nor there, since when
	mine    map[netip.Prefix]store.Millis // placed by this member for an edit that has not been committed yet

	waiting   map[netip.Prefix]struct{} // additions that the last plan held
	confirmed map[netip.Prefix]struct{} // live bans that are no longer held: an operator confirmed them, or a reset removed them
	sizes     []sizeAt                  // of the last growthWindow, oldest first

	// knownForeign are the foreign prefixes that no record makes ours any more, except records of the named members. A reader may
	// keep the map: it is replaced, never modified.
	knownForeign map[netip.Prefix][]string
}

// sighting is a prefix in running that no member here has placed.
type sighting struct {
	since  time.Time
	heard  time.Time // since when every alive member has shared what it holds; zero: not yet
	firm   bool      // it is foreign, whatever records arrive
	except []string  // members that were not heard at that time and may have placed it
	gone   time.Time // since when readings lack it; zero while it is there
}

// handRemoval is a prefix that somebody removed from the tenant by hand.
type handRemoval struct {
	notBefore time.Time     // when it may be added again; zero while it is there
	hold      time.Duration // the wait that led to notBefore
	found     time.Time     // of the first reading here that lacked it
	last      time.Time     // of the last reading here that had it; zero: another member found it gone, or no member was away then
	judged    bool          // newest is known
	newest    store.Millis  // start of the newest ban of exactly it when it was found gone; zero: none
}

// newMemory knows nothing of the tenant: the first plan reads it.
func newMemory() memory {
	return memory{
		seen:      make(map[netip.Prefix]store.Millis),
		byHand:    make(map[netip.Prefix]handRemoval),
		ours:      make(map[netip.Prefix]store.Millis),
		foreign:   make(map[netip.Prefix]sighting),
		unused:    make(map[netip.Prefix]time.Time),
		mine:      make(map[netip.Prefix]store.Millis),
		confirmed: make(map[netip.Prefix]struct{}),
	}
}

// news is what a reading shows for the first time.
type news struct {
	byHand  []netip.Prefix
	foreign []netip.Prefix
	reset   []netip.Prefix // gone with too much else for a removal by hand: put back with the next commit
}

const maxHold = 24 * time.Hour

// look records a reading of running. live tells whether a ban covers a prefix. old tells whether a record with that end was
// written before every edit that may be open: an address that is there under a newer record may be an administrator's, and its
// author may be about to withdraw the record. shrink is the percentage of the tenant above which prefixes that vanish together
// are a reset: a restored backup, another conductor, a restart without the last commits.
func (m *memory) look(now time.Time, r conductor.Running, placed map[netip.Prefix]store.Millis, live func(netip.Prefix) bool, old func(store.Millis) bool, hold time.Duration, shrink int) news {
	var n news
	before := m.at
	m.valid, m.at, m.running = true, now, r.Addresses
	m.present = make(map[netip.Prefix]struct{}, len(r.Addresses))
	for _, p := range r.Addresses {
		m.present[p] = struct{}{}
	}
	m.lookAtPlaced(&n, before, placed, live, old, hold, m.reset(r, placed, shrink))
	maps.DeleteFunc(m.ours, func(p netip.Prefix, _ store.Millis) bool { _, there := m.present[p]; return !there })
	m.lookAtForeign(&n, placed, hold)
	m.forget(placed, live)
	slices.SortFunc(n.byHand, comparePrefixes)
	slices.SortFunc(n.reset, comparePrefixes)
	slices.SortFunc(n.foreign, comparePrefixes)
	return n
}

// lookAtPlaced compares the reading with what is placed. before is when running was read the last time.
func (m *memory) lookAtPlaced(n *news, before time.Time, placed map[netip.Prefix]store.Millis, live func(netip.Prefix) bool, old func(store.Millis) bool, hold time.Duration, reset bool) {
	now := m.at
	m.absent = make(map[netip.Prefix]store.Millis)
	for p, until := range placed {
		if _, there := m.present[p]; there {
			if _, mine := m.mine[p]; mine && m.foreign[p].firm {
				delete(m.mine, p) // it was about to be added, and is back: foreign, as before
				continue
			}
			m.seen[p] = until
			if _, ours := m.ours[p]; ours || old(until) {
				m.ours[p] = until
			}
			delete(m.unused, p)
			delete(m.mine, p)
			if h, ok := m.byHand[p]; ok {
				m.byHand[p] = handRemoval{hold: h.hold}
			}
			continue
		}
		m.absent[p] = until
		if !live(p) {
			if _, ok := m.unused[p]; !ok {
				m.unused[p] = now
			}
			continue
		}
		delete(m.unused, p)
		// It was there under this very lease, and no commit of ours removed it.
		if was, ok := m.seen[p]; ok && was == until {
			h := m.byHand[p]
			switch {
			case !h.notBefore.IsZero(): // it was removed by hand before
			case reset:
				delete(m.seen, p)
				m.confirmed[p] = struct{}{}
				n.reset = append(n.reset, p)
			default:
				next := min(max(2*h.hold, hold), maxHold)
				m.byHand[p] = handRemoval{notBefore: now.Add(next), hold: next, found: now, last: before}
				n.byHand = append(n.byHand, p)
			}
		}
	}
}

// lookAtForeign keeps the sightings of what is in the tenant and not ours.
func (m *memory) lookAtForeign(n *news, placed map[netip.Prefix]store.Millis, hold time.Duration) {
	now := m.at
	for p := range m.present {
		_, ours := m.ours[p]
		_, recorded := placed[p]
		s, known := m.foreign[p]
		switch {
		case ours || recorded && !s.firm:
			delete(m.foreign, p)
		case !known:
			m.foreign[p] = sighting{since: now}
			n.foreign = append(n.foreign, p)
		case !s.gone.IsZero():
			m.foreign[p] = sighting{since: now, firm: s.firm, except: s.except}
		}
	}
	for p, s := range m.foreign {
		if _, there := m.present[p]; there {
			continue
		}
		// One answer that lacks it, as after a failover, does not end the sighting: otherwise a record that was not believed
		// would count as soon as the next answer has it again.
		switch {
		case !s.firm || !s.gone.IsZero() && now.Sub(s.gone) >= hold:
			delete(m.foreign, p)
		case s.gone.IsZero():
			s.gone = now
			m.foreign[p] = s
		}
	}
	m.listForeign()
}

// forget drops what is remembered of prefixes that are no longer placed or no longer banned.
func (m *memory) forget(placed map[netip.Prefix]store.Millis, live func(netip.Prefix) bool) {
	ours := func(p netip.Prefix) bool { _, ok := placed[p]; return ok }
	maps.DeleteFunc(m.seen, func(p netip.Prefix, _ store.Millis) bool { return !ours(p) })
	maps.DeleteFunc(m.byHand, func(p netip.Prefix, _ handRemoval) bool { return !ours(p) || !live(p) })
	maps.DeleteFunc(m.confirmed, func(p netip.Prefix, _ struct{}) bool { return !live(p) })
	maps.DeleteFunc(m.unused, func(p netip.Prefix, _ time.Time) bool { return !ours(p) })
}

// reset reports whether a reading shows that the tenant was replaced rather than edited: the tenant or our member is gone
// altogether, or more of its content than the shrink guard's share. m.present is already that of the reading.
func (m *memory) reset(r conductor.Running, placed map[netip.Prefix]store.Millis, shrink int) bool {
	known, gone := 0, 0
	for p, was := range m.seen {
		if until, ok := placed[p]; !ok || until != was || !m.byHand[p].notBefore.IsZero() {
			continue
		}
		known++
		if _, there := m.present[p]; !there {
			gone++
		}
	}
	return gone > 0 && (!r.Exists || !r.Member || known >= shrinkFloor && gone*100 > known*shrink)
}

// misses reports whether a reading lacks something that was in running and that nobody here removed: a single such answer is
// checked by a second reading.
func (m *memory) misses(r conductor.Running, placed map[netip.Prefix]store.Millis) bool {
	there := make(map[netip.Prefix]struct{}, len(r.Addresses))
	for _, p := range r.Addresses {
		there[p] = struct{}{}
	}
	for p, was := range m.seen {
		if _, ok := there[p]; !ok && placed[p] == was && m.byHand[p].notBefore.IsZero() {
			return true
		}
	}
	return false
}

// tells reports whether the last reading still covers every placed prefix: another leader may have placed and committed more
// since.
func (m *memory) tells(placed map[netip.Prefix]store.Millis) bool {
	if !m.valid {
		return false
	}
	for p, until := range placed {
		if _, there := m.present[p]; there {
			continue
		}
		if was, ok := m.absent[p]; !ok || was != until {
			return false
		}
	}
	return len(m.lost(placed)) == 0 // another leader may have removed them and lifted their records
}

// shows reports whether running is what the last reading showed.
func (m *memory) shows(running []netip.Prefix) bool {
	if !m.valid || len(running) != len(m.present) {
		return false
	}
	for _, p := range running {
		if _, ok := m.present[p]; !ok {
			return false
		}
	}
	return true
}

// sent records that an edit is about to be committed: what it adds is ours from now on, whoever had put that address there
// before.
func (m *memory) sent(add []netip.Prefix, placed map[netip.Prefix]store.Millis) {
	for _, x := range add {
		delete(m.foreign, x)
		m.ours[x] = placed[x]
	}
	m.listForeign()
}

// committed records that an edit is in running. It does not read running again, because the conductor package just has.
func (m *memory) committed(now time.Time, p Plan, placed map[netip.Prefix]store.Millis) {
	gone := make(map[netip.Prefix]struct{}, len(p.Remove))
	for _, x := range p.Remove {
		gone[x] = struct{}{}
		delete(m.seen, x)
		delete(m.present, x)
		delete(m.foreign, x)
		delete(m.ours, x)
	}
	running := make([]netip.Prefix, 0, len(m.running)+len(p.Add))
	for _, x := range m.running {
		if _, ok := gone[x]; !ok {
			running = append(running, x)
		}
	}
	for _, x := range p.Add {
		running = append(running, x)
		m.present[x] = struct{}{}
		if until, ok := placed[x]; ok {
			m.seen[x], m.ours[x] = until, until
		}
		delete(m.absent, x)
		delete(m.unused, x)
		delete(m.mine, x)
		if h, ok := m.byHand[x]; ok {
			m.byHand[x] = handRemoval{hold: h.hold}
		}
	}
	m.running, m.at = running, now
	m.listForeign()
}

// contradicts reports whether added, which the candidate holds and running lacks, exceeds the shrink guard's share of what this
// member has seen in running.
func (m *memory) contradicts(added []netip.Prefix, shrink int) bool {
	seen := 0
	for _, x := range added {
		if _, ok := m.seen[x]; ok {
			seen++
		}
	}
	return len(m.seen) >= shrinkFloor && seen*100 > len(m.seen)*shrink
}

// heardByHand records another member's report of a removal by hand. It is repeated for as long as it holds, and this member
// waits once more after the last one.
func (m *memory) heardByHand(now time.Time, p netip.Prefix, hold time.Duration) {
	h := m.byHand[p]
	if at := now.Add(max(h.hold, hold)); h.notBefore.Before(at) {
		h.notBefore, h.hold = at, max(h.hold, hold)
		m.byHand[p] = h
	}
}

// pardon ends the waits that have lost their reason: a leader has recorded that it removed the prefix itself, or the prefix was
// banned anew after it was found gone. The record must be looked for before this member writes one of its own for the edit that
// adds the prefix again, and nobody may look twice: afterwards the new record would pass for the old one.
func (m *memory) pardon(bans []ban, placed map[netip.Prefix]store.Millis) {
	waits := m.notBefore()
	if len(waits) == 0 {
		return
	}
	newest := make(map[netip.Prefix]store.Millis, len(waits))
	for _, b := range bans {
		if _, waits := waits[b.prefix]; waits {
			newest[b.prefix] = max(newest[b.prefix], b.newest)
		}
	}
	for p := range waits {
		h := m.byHand[p]
		_, recorded := placed[p]
		switch {
		case !recorded:
			delete(m.byHand, p)
			delete(m.seen, p)
		case !h.judged:
			h.judged, h.newest = true, newest[p]
			m.byHand[p] = h
		case newest[p] > h.newest:
			m.byHand[p] = handRemoval{hold: h.hold} // the next one waits twice as long all the same
			delete(m.seen, p)
		}
	}
}

// notBefore lists what may not be added yet.
func (m *memory) notBefore() map[netip.Prefix]time.Time {
	held := make(map[netip.Prefix]time.Time, len(m.byHand))
	for p, h := range m.byHand {
		if !h.notBefore.IsZero() {
			held[p] = h.notBefore
		}
	}
	return held
}

// inDoubt lists what waits because a reading here lacked it, though a member that was away may have removed it, sorted.
func (m *memory) inDoubt() []netip.Prefix {
	var ps []netip.Prefix
	for p, h := range m.byHand {
		if !h.notBefore.IsZero() && !h.last.IsZero() {
			ps = append(ps, p)
		}
	}
	slices.SortFunc(ps, comparePrefixes)
	return ps
}
