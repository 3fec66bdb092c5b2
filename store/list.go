package store

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"
)

// liveBan reports whether the record is a ban that is neither lifted nor expired.
func liveBan(r *rec, now Millis) bool {
	return r.kind == KindBan && !r.is(flagLifted) && r.until > now
}

// entry turns the chain of records that begins at head into one entry, false if no live ban is in it. Every member must come to
// the same one from the same records, in whatever order they came: records are sorted, and of several reasons the first in the
// alphabet is told. Until is the latest of the bans that count; of all live ones where none does.
func (s *Store) entry(head uint32, now Millis, exemptions exemptions) (e Entry, ok bool) {
	live := 0
	for c := head; c != 0; c = s.set.slab.at(c).next {
		if liveBan(s.set.slab.at(c), now) {
			live++
		}
	}
	if live == 0 {
		return e, false
	}
	e.Records = make([]BanRecord, 0, live)
	counts := false
	var ignored string
	for c := head; c != 0; {
		r := s.set.slab.at(c)
		if liveBan(r, now) {
			l := s.set.labels.at(r.label)
			why := s.set.ignored(r)
			e.Records = append(e.Records, BanRecord{s.set.originOf(r).name, l.jail, r.start, r.until, r.failures, l.shown(), why != ""})
			if why == "" {
				if !counts || r.until > e.Until {
					e.Until = r.until
				}
				counts = true
			} else {
				if ignored == "" || why < ignored { // pick the same one on every member, whatever the order of arrival
					ignored = why
				}
				if !counts {
					e.Until = max(e.Until, r.until)
				}
			}
		}
		c = r.next
	}
	slices.SortFunc(e.Records, func(a, b BanRecord) int {
		return cmp.Or(cmp.Compare(a.Origin, b.Origin), cmp.Compare(a.Jail, b.Jail), cmp.Compare(a.Start, b.Start),
			cmp.Compare(a.Until, b.Until), cmp.Compare(a.Failures, b.Failures), cmp.Compare(a.Reason, b.Reason))
	})
	e.Prefix = s.set.slab.at(head).key().prefix()
	switch {
	case !counts:
		e.Reason = ignored
	case exemptions.covers(e.Prefix):
		e.Reason = s.exemptionReason(e.Prefix, now)
	default:
		e.Effective = true
		e.Except = exemptions.cutOut(e.Prefix)
	}
	e.Held = e.Effective && s.set.holds(head)
	return e, true
}

// exemptionReason says what exempts a prefix.
func (s *Store) exemptionReason(p netip.Prefix, now Millis) string {
	// The reserved ranges first, then this member's own list, the leases and the allows: what an operator can
	// change comes last.
	for _, b := range builtin() {
		if b.Overlaps(p) && b.Bits() <= p.Bits() {
			return "never banned: " + b.String() + " is reserved"
		}
	}
	for _, n := range s.set.control.own {
		if n.Overlaps(p) && n.Bits() <= p.Bits() {
			return fmt.Sprintf("never banned: %s is protected by %s", n, s.set.self)
		}
	}
	for _, i := range s.set.neverBans(now) {
		for _, n := range leaseHolds(s.set.never[i]) {
			if n.Overlaps(p) && n.Bits() <= p.Bits() {
				return fmt.Sprintf("never banned: %s is protected by %s", n, s.set.originOf(s.set.slab.at(i)).name)
			}
		}
	}
	var reason string
	if k, err := keyOf(p); err == nil {
		s.set.allowing(k, now, func(r *rec) bool {
			if why := fmt.Sprintf("allowed: %s by %s", r.key().prefix(), s.set.originOf(r).name); reason == "" || why < reason {
				reason = why
			}
			return true
		})
	}
	if reason != "" {
		return reason
	}
	// No single one covers it, only several together.
	return "allowed or never banned, in parts"
}

// Effective yields what should be blocked, in no order, as of one moment. The set stays locked for reading meanwhile, so the
// callee must not write to the store.
func (s *Store) Effective() iter.Seq[EffectiveBan] {
	return func(yield func(EffectiveBan) bool) {
		s.mu.RLock()
		defer s.mu.RUnlock()
		now := s.now()
		exemptions := s.exemptionsLocked(now)
		var seen sightings
		var whole [1]netip.Prefix
		for head := range s.set.heads() {
			e, ok := s.effective(head, now, &seen)
			if ok && exemptions.cut(&e, &whole) && !yield(e) {
				return
			}
		}
	}
}

// part is how many records EffectiveParts visits under one lock, which takes about half a millisecond.
const part = 1024

// EffectiveParts yields what Effective does, but takes the lock again and again for a short time, so that nobody waits for a
// walk over a million records. A ban that changes meanwhile may be yielded as it was, as it is, twice or not at all. A caller
// that needs the exact set also follows the changes.
func (s *Store) EffectiveParts() iter.Seq[EffectiveBan] {
	return func(yield func(EffectiveBan) bool) {
		var seen sightings
		var whole [1]netip.Prefix
		some := func(first uint32) (more bool) {
			s.mu.RLock()
			defer s.mu.RUnlock()
			now := s.now()
			exemptions := s.exemptionsLocked(now)
			for i := first; i < min(first+part, s.set.slab.used); i++ {
				r := s.set.slab.at(i)
				// A prefix is yielded with its first record, wherever its others are.
				if r.is(flagDead) || s.set.head(r.key()) != i {
					continue
				}
				e, ok := s.effective(i, now, &seen)
				if ok && exemptions.cut(&e, &whole) && !yield(e) {
					return false
				}
			}
			return first+part < s.set.slab.used
		}
		for first := uint32(1); some(first); {
			first += part
		}
	}
}

// cut cuts the exemptions out of a ban and reports whether anything is left. Where nothing is cut, the piece goes into
// whole, so that a walk over a million bans allocates nothing.
func (e exemptions) cut(b *EffectiveBan, whole *[1]netip.Prefix) bool {
	if e.overlap(b.Prefix) == overlapsNot {
		whole[0] = b.Prefix
		b.Pieces = whole[:]
	} else {
		b.Pieces = e.pieces(b.Prefix)
	}
	return len(b.Pieces) > 0
}

// effective sums up the live bans of one prefix, given the first of its records. ok is false if
// there is none; whether an allow covers the prefix is not asked here. Held says that every one of
// them is held: a single ban that is not makes the prefix effective here. Called with mu held; seen
// is reused by the caller, so e.Seen is valid until its next use.
func (s *Store) effective(head uint32, now Millis, seen *sightings) (e EffectiveBan, ok bool) {
	seen.clear()
	held := true
	for c := head; c != 0; {
		r := s.set.slab.at(c)
		if liveBan(r, now) && s.set.counting(r) {
			held = held && r.is(flagHeld)
			e.Records++
			e.Until = max(e.Until, r.until)
			e.Newest = max(e.Newest, r.start)
			by := s.set.originOf(r)
			e.ByPeer = e.ByPeer || by.name != s.set.self
			seen.add(by, s.set.labels.at(r.label).jail)
		}
		c = r.next
	}
	if e.Records == 0 {
		return e, false
	}
	e.Origins, e.Jails = seen.count()
	e.Seen = seen.all
	e.Held = held
	e.Prefix = s.set.slab.at(head).key().prefix()
	return e, true
}

// counting reports whether a live record counts: its origin is not blocked and it exceeds no limit.
func (s *set) counting(r *rec) bool { return !r.is(flagOver) && !s.originOf(r).blocked }
