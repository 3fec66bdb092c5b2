package store

import "banmesh/internal/mark"

// names reports whether the lift, counting or not, covers the record.
func (s *set) names(lift uint32, target *rec) bool {
	return s.bodyNames(s.lifts[lift], target)
}

// bodyNames reports whether a lift names a record: bans by their offence, everything else by its
// dot. Lifts are not lifted: an unban that could itself be withdrawn would make the outcome depend
// on the order of arrival.
func (s *set) bodyNames(body *liftBody, target *rec) bool {
	l := s.logs[target.log]
	switch target.kind {
	case KindBan:
		return body.names(l.id.Origin, s.labels.at(target.label).jail, target.start)
	case KindLift:
		return false
	}
	return body.covers(l.id, target.seq)
}

// counts reports whether the lift has an effect on the record it names. Anybody but the member that a Block names may lift it,
// whichever members are blocked: so a blocked member cannot free itself, and two that block each other can be freed by a third.
// A member that blocked itself may change its mind. Nobody else lifts what a member protects.
func (s *set) counts(lift uint32, target *rec) bool {
	r := s.slab.at(lift)
	if r.is(flagOver) {
		return false
	}
	o := s.originOf(r)
	if o.unlisted {
		return false
	}
	if target.kind == KindNeverBan && o != s.originOf(target) {
		return false
	}
	if target.kind == KindBlock {
		blocked := s.labels.at(target.label).jail
		return o.name != blocked || s.originOf(target).name == blocked
	}
	return !o.blocked
}

// liftRetention is how long a lift must be kept: as long as any held record that it covers.
func (s *set) liftRetention(body *liftBody, until Millis, head uint32) Millis {
	for c := head; c != 0; {
		r := s.slab.at(c)
		if s.bodyNames(body, r) {
			until = max(until, s.retained(c))
		}
		c = r.next
	}
	return until
}

// covers reports whether a lift names any of the records of its prefix that are in the root at a minute.
func (s *set) covers(body *liftBody, head uint32, minute int64) bool {
	for c := head; c != 0; {
		r := s.slab.at(c)
		if leaveMinute(s.retained(c)) > minute && s.bodyNames(body, r) {
			return true
		}
		c = r.next
	}
	return false
}

// setRetain moves a lift to another minute of the horizon. The limits of its origin are judged
// again if that changes whether it is still in the root, because only what is in the root is
// judged.
func (s *set) setRetain(lift uint32, retain Millis) {
	h := s.hash(lift)
	s.leave(lift, h)
	before := s.lifts[lift].retain
	s.lifts[lift].retain = retain
	s.enter(lift, h)
	if (leaveMinute(before) <= s.hz.at) != (leaveMinute(retain) <= s.hz.at) {
		s.relimitLater(s.originOf(s.slab.at(lift)))
	}
}

// lowerLifts shortens the retention of the lifts that were kept for record i, which has just been unlinked.
func (s *set) lowerLifts(i uint32, retain Millis) {
	r := s.slab.at(i)
	head := s.head(r.key())
	for c := head; c != 0; {
		l := s.slab.at(c)
		if l.kind == KindLift && s.lifts[c].retain == retain && retain > l.until && s.names(c, r) {
			if lower := s.liftRetention(s.lifts[c], l.until, head); lower != retain {
				s.setRetain(c, lower)
			}
		}
		c = l.next
	}
}

// meetLifts finds the lifts that arrived before record i: they are kept as long as it is, and the first that counts is
// returned.
func (s *set) meetLifts(i, head uint32) (by uint32) {
	r := s.slab.at(i)
	retain := s.retained(i)
	for c := head; c != 0; {
		l := s.slab.at(c)
		if l.kind == KindLift && s.names(c, r) {
			if retain > s.lifts[c].retain {
				s.setRetain(c, retain)
			}
			if by == 0 && s.counts(c, r) {
				by = c
			}
		}
		c = l.next
	}
	return by
}

// addedBan applies the effect of a new ban.
func (s *set) addedBan(i, head uint32, wasLive bool) {
	r := s.slab.at(i)
	if s.meetLifts(i, head) != 0 {
		mark.Reached("store: a lift was there before its ban")
		r.flags |= flagLifted
		s.noticeUnban(r)
		s.admit(i)
		return
	}
	s.admit(i)
	if r.until > s.now {
		kind := EventBan
		if wasLive {
			kind = EventExtend
		}
		s.emit(s.event(kind, r))
	}
}

// addedLift applies the effect of a new lift on the records present, and removes the lifts that it replaces.
func (s *set) addedLift(i, head uint32, old []uint32) {
	r := s.slab.at(i)
	if s.lifts[i].foreign(s.originOf(r).name) {
		r.flags |= flagForeign
	}
	s.admit(i)
	for c := head; c != 0; {
		t := s.slab.at(c)
		if !t.is(flagLifted) && t.kind != KindLift && s.names(i, t) && s.counts(i, t) {
			s.lifted(c, i)
		}
		c = t.next
	}
	for _, o := range old { // what they cover stays covered, unless the new one is over a limit
		s.remove(o)
	}
	if len(old) > 0 && r.is(flagOver) {
		s.recheckTargets(i)
	}
}

// addedOther applies the effect of a new record of another kind.
func (s *set) addedOther(i, head uint32, wasLive bool) {
	r := s.slab.at(i)
	if s.meetLifts(i, head) != 0 {
		r.flags |= flagLifted
	}
	s.admit(i)
	live := !r.is(flagLifted) && r.until > s.now
	switch r.kind {
	case KindAllow:
		if live && !r.is(flagOver) {
			s.tell(Notice{Kind: NoticeAllow, Prefix: r.key().prefix(), Start: r.start, Until: r.until})
		}
	case KindNeverBan, KindFreeze, KindBlock:
		s.control.dirty = true
	}
	if live && !(wasLive && (r.kind == KindPlaced || r.kind == KindNeverBan)) {
		kinds := [kindEnd]EventKind{KindAllow: EventAllow, KindNeverBan: EventNeverBan, KindPlaced: EventPlaced, KindFreeze: EventFreeze, KindBlock: EventBlock, KindForget: EventForget}
		s.emit(s.event(kinds[r.kind], r))
	}
}

// event copies what a reader of events may want, since the record may be reused before the event is
// read.
func (s *set) event(kind EventKind, r *rec) Event {
	l := s.labels.at(r.label)
	return Event{
		Kind: kind, Prefix: r.key().prefix(), Origin: s.originOf(r).name, Jail: l.jail,
		Start: r.start, Until: r.until, Failures: r.failures, Text: l.shown(),
	}
}

// lifted marks record i, which a lift now covers.
func (s *set) lifted(i, by uint32) {
	r := s.slab.at(i)
	r.flags |= flagLifted
	s.leaveLive(i)
	switch r.kind {
	case KindBan:
		s.noticeUnban(r)
	case KindAllow:
		s.control.exemptionsVersion++
	case KindNeverBan, KindFreeze, KindBlock:
		s.control.dirty = true
	}
	if r.until <= s.now || r.kind == KindPlaced || r.kind == KindNeverBan {
		return
	}
	kinds := [kindEnd]EventKind{KindBan: EventLift, KindAllow: EventDisallow, KindFreeze: EventThaw, KindBlock: EventUnblock}
	e := s.event(kinds[r.kind], r)
	e.By = s.originOf(s.slab.at(by)).name
	s.emit(e)
}

// noticeUnban queues a notice if an own ban that has not expired is lifted.
func (s *set) noticeUnban(r *rec) {
	if s.originOf(r).name == s.self && r.until > s.now {
		s.tell(Notice{Kind: NoticeUnban, Prefix: r.key().prefix(), Jail: s.labels.at(r.label).jail, Start: r.start, Until: r.until})
	}
}

// recheck evaluates again whether record i is lifted, after a lift began or ceased to count.
func (s *set) recheck(i uint32) {
	r := s.slab.at(i)
	var by uint32
	for c := s.head(r.key()); c != 0; {
		l := s.slab.at(c)
		if l.kind == KindLift && s.names(c, r) && s.counts(c, r) {
			by = c
			break
		}
		c = l.next
	}
	switch {
	case by != 0 && !r.is(flagLifted):
		s.lifted(i, by)
	case by == 0 && r.is(flagLifted):
		r.flags &^= flagLifted
		s.relimitLater(s.originOf(r))
		switch r.kind {
		case KindAllow:
			s.control.exemptionsVersion++
		case KindBan:
			s.guardUnjudged(i)
			if r.until > s.now {
				s.emit(s.event(EventBan, r))
			}
		case KindNeverBan, KindFreeze, KindBlock:
			s.control.dirty = true
		}
	}
}

// recheckTargets rechecks every record that the lift covers.
func (s *set) recheckTargets(lift uint32) {
	for c := s.head(s.slab.at(lift).key()); c != 0; {
		t := s.slab.at(c)
		if t.kind != KindLift && s.names(lift, t) {
			s.recheck(c)
		}
		c = t.next
	}
}
