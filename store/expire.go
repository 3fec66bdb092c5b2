package store

import "container/heap"

// backwards is how far a clock may step back before everything is examined again.
const backwards = 5 * second

// advance handles what has expired up to now. If the clock stepped back, bans that had expired are live again.
func (s *set) advance(now Millis) {
	switch {
	case now < s.now-backwards:
		s.rewind(now)
		return
	case now < s.now:
		s.stepBack(now)
		return
	case now == s.now:
		return
	}
	s.now = now
	for h := &s.hz.early; len(*h) > 0 && (*h)[0].until <= now; {
		e := heap.Pop(h).(earlyEntry)
		// The entry may be old: its place may hold another record by now.
		if r := s.slab.at(e.index); r.seq == e.seq && r.until == e.until && !r.is(flagDead) {
			s.expire(e.index)
		}
	}
	last := expiryMinute(now)
	// With the last minute again, of which only a part had ended then.
	s.hz.between(s.hz.expired-1, last, func(b *bucket) {
		if b.due > now {
			return
		}
		b.due = Never
		for _, i := range b.recs {
			if r := s.slab.at(i); r.is(flagExpired) {
				continue
			} else if r.until <= now {
				s.expire(i)
			} else {
				b.due = min(b.due, r.until)
			}
		}
	})
	s.hz.expired = last
	s.shift(Minute(now.Time()))
}

// expire marks a record whose end has come. It stays in the set and in the root: other members with
// a slower clock still count it, and roots must agree in between.
func (s *set) expire(i uint32) {
	r := s.slab.at(i)
	if r.is(flagExpired) {
		return
	}
	live := r.live()
	r.flags |= flagExpired
	s.leaveLive(i)
	if live && r.kind == KindBan {
		s.emit(s.event(EventExpire, r))
	}
	if live && r.kind == KindAllow {
		s.emit(s.event(EventDisallow, r))
	}
}

// stepBack starts again from a now that is a little earlier: only what has expired since then is examined.
func (s *set) stepBack(now Millis) {
	first, last := expiryMinute(now), expiryMinute(s.now)
	s.now = now
	again := func(i uint32) {
		r := s.slab.at(i)
		if r.until <= now || !r.is(flagExpired) || r.is(flagDead) {
			return
		}
		r.flags &^= flagExpired
		if r.is(flagFloor) {
			heap.Push(&s.hz.early, earlyEntry{r.until, r.seq, i})
		}
		if r.kind == KindBan || r.kind == KindAllow {
			o := s.originOf(r)
			o.judged = 0 // it must not take effect before it is judged
			s.relimitLater(o)
		}
		s.control.exemptionsVersion++
		s.control.dirty = true
	}
	s.hz.between(first-1, last, func(b *bucket) {
		b.due = 0
		for _, i := range b.recs {
			again(i)
		}
	})
	for i := range s.floors {
		again(i)
	}
	s.hz.expired = first
	s.shift(Minute(now.Time()))
}

// rewind starts again from a much earlier now and examines everything.
func (s *set) rewind(now Millis) {
	s.now = now
	s.hz.early = s.hz.early[:0]
	for _, l := range s.logs {
		if l == nil {
			continue
		}
		for _, i := range l.recs {
			r := s.slab.at(i)
			if r.is(flagDead) || r.until <= now {
				continue
			}
			r.flags &^= flagExpired
			if r.is(flagFloor) {
				heap.Push(&s.hz.early, earlyEntry{r.until, r.seq, i})
			}
		}
	}
	for _, o := range s.origins {
		o.judged = 0 // what lives again must not take effect before it is judged, and the last judgement's time is from another clock
		s.relimitLater(o)
	}
	for _, b := range s.hz.buckets {
		b.due = 0
	}
	s.hz.expired = expiryMinute(now)
	s.control.dirty = true
	s.shift(Minute(now.Time()))
}

// forget deletes what is past its retention, at most limit records; more reports whether some remain.
func (s *set) forget(limit int) (more bool) {
	h := &s.hz
	last := leaveMinute((s.now - forgetAfter))
	for len(h.minutes) > 0 && h.minutes[0] <= last {
		m := h.minutes[0]
		b := h.buckets[m]
		if b == nil {
			heap.Pop(&h.minutes)
			continue
		}
		var due []uint32
		for _, i := range b.recs {
			if s.retained(i).plus(forgetAfter) <= s.now {
				due = append(due, i)
			}
		}
		// Collected before, since removing a record changes its bucket.
		for _, i := range due {
			if limit == 0 {
				return true
			}
			if s.slab.at(i).is(flagDead) || s.retained(i).plus(forgetAfter) > s.now {
				continue
			}
			s.remove(i)
			limit--
		}
		if h.buckets[m] != nil { // the rest of the minute is not due yet
			return false
		}
	}
	return false
}
