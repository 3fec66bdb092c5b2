package store

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// origin is the state of one member over all its logs.
type origin struct {
	name     string
	logs     []*logState
	records  int
	size     int  // stored records in units, see units
	bare     int  // records without prefix
	blocked  bool // nothing of it counts: a Block names it, or it is unlisted
	unlisted bool // it is missing from the configured members
	over     [kindEnd]int
	gones    int // its Gones

	gone      map[uint64]rangeSet // numbers that those name, by epoch, see set.gone
	goneStale bool

	// Accepted records in the order of limits: by number, then by epoch. Kept only for the limits that are set.
	top          order
	live         int           // live bans
	space        [2]uint64     // covered by live bans: IPv6 in /64s, IPv4 in addresses
	allowedSpace [2]uint64     // covered by live allows, in the units of space
	minutes      map[int64]int // bans by the minute of their start
	lifts        int           // lifts of others' bans
	liftMinutes  map[int64]int
	allows       int
	crowded      int // records over a limit that depends on the others: one of them may come in when an accepted one goes
	dirty        bool
	judged       Millis // not judged again before, see judge
}

// order is a record's place among those of its origin.
type order struct{ seq, epoch uint64 }

func (o order) compare(p order) int {
	return cmp.Or(cmp.Compare(o.seq, p.seq), cmp.Compare(o.epoch, p.epoch))
}

// origin returns the state of a member, making it at the first record. That record may be one that
// does not count: what counts is judged with all that the member wrote.
func (s *set) origin(name string) *origin {
	o := s.origins[name]
	if o == nil {
		o = &origin{name: name, unlisted: s.unlisted(name)}
		o.blocked = o.unlisted
		s.origins[name] = o
	}
	return o
}

// drop takes a log from the member. The caller asks dropOrigin whether the member itself goes too.
func (o *origin) drop(l *logState) {
	if i := slices.Index(o.logs, l); i >= 0 {
		o.logs = slices.Delete(o.logs, i, i+1)
	}
}

func (s *set) order(r *rec) order { return order{r.seq, s.logs[r.log].id.Epoch} }

// compareRecords compares records of one origin by their order, and twins by their content.
func (s *set) compareRecords(a, b uint32) int {
	if c := s.order(s.slab.at(a)).compare(s.order(s.slab.at(b))); c != 0 || a == b {
		return c
	}
	return bytes.Compare(s.encode(nil, a), s.encode(nil, b))
}

// relimitLater has finish judge the member's records again, once for a whole merge instead of at
// each record.
func (s *set) relimitLater(o *origin) {
	if !o.dirty && s.limits != (Limits{}) {
		o.dirty = true
		s.dirty = append(s.dirty, o)
	}
}

// admit decides whether a new record exceeds a limit of its origin. A record at the end of its origin's order is judged at
// once, so that a flood costs only its own records. A record in between has finish judge all of them again, if that can make a
// difference.
func (s *set) admit(i uint32) {
	if s.limits == (Limits{}) {
		return
	}
	r := s.slab.at(i)
	// Out of the root already: members need not agree on it any more, so it is not counted, see dismissLeft.
	if leaveMinute(s.retained(i)) <= s.hz.at {
		return
	}
	o := s.originOf(r)
	last := s.order(r).compare(o.top) > 0
	if last {
		o.top = s.order(r)
	}
	if s.tooWide(r) {
		s.setOver(r)
		return
	}
	fits := s.fits(o, r)
	switch {
	// In between others, where each later one may have to give way or come in.
	case !last && (o.crowded > 0 || !fits):
		s.relimitLater(o)
		s.guardUnjudged(i)
	case fits:
		s.accept(o, r)
		if r.is(flagLive) && r.kind == KindBan {
			s.guardLive(i)
		}
	default:
		s.setOver(r)
		o.crowded++
	}
}

// setOver and clearOver keep the counts beside the flag, so that status does not visit every
// record.
func (s *set) setOver(r *rec) {
	if !r.is(flagOver) {
		r.flags |= flagOver
		s.over++
		s.originOf(r).over[r.kind]++
	}
}

func (s *set) clearOver(r *rec) {
	if r.is(flagOver) {
		r.flags &^= flagOver
		s.over--
		s.originOf(r).over[r.kind]--
	}
}

// tooWide depends on nothing but the record and the limits, so every member decides it alike and at
// once.
func (s *set) tooWide(r *rec) bool {
	w := s.limits.widest(r.kind, r.key())
	return w > 0 && r.key().length() < w
}

// widest is the shortest length that a prefix of the kind may have; 0 means any.
func (l *Limits) widest(kind Kind, k pkey) int {
	v4, v6 := l.WidestV4, l.WidestV6
	switch {
	case kind == KindBan:
	case kind == KindAllow && !private(k):
		v4, v6 = l.AllowWidestV4, l.AllowWidestV6
	default:
		return 0
	}
	if k.is4() {
		return v4
	}
	return v6
}

// TooWide says why a ban or an allow of that prefix would not count anywhere, "" if it would.
func (l Limits) TooWide(kind Kind, p netip.Prefix) string {
	k, err := keyOf(p)
	if err != nil {
		return "" // keyOf refuses it with a better reason
	}
	if w := l.widest(kind, k); k.length() < w {
		return fmt.Sprintf("wider than /%d: the limits of the members let it count nowhere", w)
	}
	return ""
}

func below(n, limit int) bool { return limit == 0 || n < limit }

// fits reports whether the record fits beside those that were accepted.
func (s *set) fits(o *origin, r *rec) bool {
	l := &s.limits
	switch r.kind {
	case KindBan:
		if r.live() && !(below(o.live, l.LivePerOrigin) && room(extent(r.key()), r.key(), o.space, l.SpaceV4, l.SpaceV6)) {
			return false
		}
		return l.PerMinutePerOrigin == 0 || o.minutes[r.minute()] < l.PerMinutePerOrigin
	case KindLift:
		// A member may lift any number of its own bans.
		if !r.is(flagForeign) {
			return true
		}
		return below(o.lifts, l.LiftsPerOrigin) && s.inTime(o, r.minute(), 1)
	case KindAllow:
		return !r.live() || below(o.allows, l.AllowsPerOrigin) && room(publicExtent(r.key()), r.key(), o.allowedSpace, l.AllowWidestV4, l.AllowWidestV6)
	}
	return true
}

// inTime reports whether n more lifts of a minute count by now. Those beyond the limit of a minute count in the minutes after it,
// as many in each: so a limit that was lowered since does not bring back for good what was lifted and acknowledged before.
func (s *set) inTime(o *origin, minute int64, n int) bool {
	limit := int64(s.limits.LiftsPerMinute)
	return limit == 0 || int64(o.liftMinutes[minute]+n) <= limit*(1+max(0, s.hz.at-minute))
}

func (r *rec) live() bool { return r.flags&(flagLifted|flagExpired) == 0 }

func (r *rec) minute() int64 { return floorDiv(int64(r.start), int64(minute)) }

// accept counts a record towards its member's limits. What it adds, drop takes away again when the
// record goes or is judged anew, by the flags set here; whatever is counted only under a condition
// needs a flag that remembers it.
func (s *set) accept(o *origin, r *rec) {
	r.flags |= flagCounted
	switch r.kind {
	case KindBan:
		if r.live() {
			r.flags |= flagLive
			o.live++
			o.space[family(r.key())] += extent(r.key())
		}
		if s.limits.PerMinutePerOrigin > 0 {
			bump(&o.minutes, r.minute(), 1)
		}
	case KindLift:
		if r.is(flagForeign) {
			o.lifts++
			if s.limits.LiftsPerMinute > 0 {
				bump(&o.liftMinutes, r.minute(), 1)
			}
		}
	case KindAllow:
		if r.live() {
			r.flags |= flagLive
			o.allows++
			o.allowedSpace[family(r.key())] += publicExtent(r.key())
		}
	}
}

// bump deletes what falls to zero: the maps have a key for each minute, and old minutes would pile
// up.
func bump(m *map[int64]int, k int64, by int) {
	if *m == nil {
		*m = make(map[int64]int)
	}
	if (*m)[k] += by; (*m)[k] == 0 {
		delete(*m, k)
	}
}

// leaveLive takes a record that expired or was lifted out of its origin's count of live ones.
func (s *set) leaveLive(i uint32) {
	r := s.slab.at(i)
	if !r.is(flagLive) {
		s.guardLeave(i) // the guard may know it before it is judged
		if r.is(flagOver) && !s.tooWide(r) {
			s.relimitLater(s.originOf(r))
		}
		return
	}
	r.flags &^= flagLive
	o := s.originOf(r)
	if r.kind == KindBan {
		s.guardLeave(i)
		o.live--
		o.space[family(r.key())] -= extent(r.key())
	} else {
		o.allows--
		o.allowedSpace[family(r.key())] -= publicExtent(r.key())
	}
	// There is room for one of those beyond a limit.
	if o.crowded > 0 {
		s.relimitLater(o)
	}
}

// dismissLeft takes a record that has left the root out of all counts: from then on some members hold it and others do not.
func (s *set) dismissLeft(i uint32) {
	if s.limits == (Limits{}) {
		return
	}
	r := s.slab.at(i)
	over := r.is(flagOver)
	s.dismiss(i)
	r.flags &^= flagCounted
	if over && r.kind == KindLift {
		s.recheckTargets(i)
	}
}

// dismiss takes a record out of all counts.
func (s *set) dismiss(i uint32) {
	r := s.slab.at(i)
	o := s.originOf(r)
	if r.is(flagOver) {
		s.clearOver(r)
		if !s.tooWide(r) {
			o.crowded--
		}
		return
	}
	if !r.is(flagCounted) {
		s.guardLeave(i)
		return
	}
	s.leaveLive(i)
	switch {
	case r.kind == KindBan && s.limits.PerMinutePerOrigin > 0:
		bump(&o.minutes, r.minute(), -1)
	case r.is(flagForeign):
		o.lifts--
		if s.limits.LiftsPerMinute > 0 {
			bump(&o.liftMinutes, r.minute(), -1)
		}
	}
	if o.crowded > 0 {
		s.relimitLater(o)
	}
}

const (
	// judgeAtOnce is how many records of an origin are judged again whenever there is a reason. With more, judging is limited
	// to judgePace records a millisecond, so that a member that sends records out of order cannot keep this one busy.
	judgeAtOnce = 1 << 14
	judgePace   = 100
)

// judge judges the records of an origin again. It returns false if that was done just now and has to wait.
func (s *set) judge(o *origin) bool {
	if o.records > judgeAtOnce && s.now < o.judged {
		return false
	}
	o.dirty = false
	s.relimit(o)
	o.judged = s.now + Millis(o.records/judgePace)
	return true
}

// relimit judges all records of an origin again, in their order.
func (s *set) relimit(o *origin) {
	var all []uint32
	for _, l := range o.logs {
		for _, i := range l.recs {
			if r := s.slab.at(i); !r.is(flagDead) && (r.kind == KindBan || r.kind == KindLift || r.kind == KindAllow) {
				all = append(all, i)
			}
		}
	}
	// A single log without twins is in this order already.
	if len(o.logs) > 1 || len(o.logs) == 1 && o.logs[0].twins { // none where all that it wrote is forgotten
		slices.SortFunc(all, s.compareRecords)
	}
	if n := len(all); n > 0 { // including those skipped when they arrived, because a fast clock had them past the root
		o.top = s.order(s.slab.at(all[n-1]))
	}
	o.live, o.lifts, o.allows, o.crowded = 0, 0, 0, 0
	o.space, o.allowedSpace = [2]uint64{}, [2]uint64{}
	clear(o.minutes)
	clear(o.liftMinutes)
	for _, i := range all {
		r := s.slab.at(i)
		was := r.is(flagOver)
		r.flags &^= flagCounted | flagLive
		s.clearOver(r)
		switch {
		case leaveMinute(s.retained(i)) <= s.hz.at: // see dismissLeft
		case s.tooWide(r):
			s.setOver(r)
		case s.fits(o, r):
			s.accept(o, r)
		default:
			s.setOver(r)
			o.crowded++
		}
		if r.kind == KindBan {
			held := r.is(flagHeld)
			if r.is(flagLive) {
				s.guardLive(i)
			} else if r.is(flagSpace | flagHeld) {
				s.guardLeave(i)
			}
			// It comes into force, or may have been until now: nobody else tells.
			if r.is(flagHeld) && !held || r.is(flagOver) != was && liveBan(r, s.now) {
				s.emit(s.event(EventExtend, r))
			}
		}
		if r.is(flagOver) == was {
			continue
		}
		switch r.kind {
		case KindLift:
			s.recheckTargets(i)
		case KindAllow:
			s.control.exemptionsVersion++
		}
	}
}
