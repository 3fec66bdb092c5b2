package store

import (
	"cmp"
	"slices"
)

// One record a key. Within a log a newer Ban of a prefix and jail replaces the older one, and so does a newer NeverBan. A newer
// Allow or Placed of a prefix replaces an older one of its log that is kept no longer. Once a newer one that ends earlier is
// forgotten, nothing would keep the older one from coming back, so it takes a Gone to end that, as it does for those of earlier
// runs. Across the logs of one member a NeverBan replaces those that are kept no longer, and a Lift those that say no more than
// it does. Which one is left depends on the records alone, not on their order of arrival, and no record that is left needs one
// that was replaced.

// replaces reports whether record i and item it, of logs of one member, share a key, so that only one of the two is kept, and
// which: by > 0 keeps the item.
func (s *set) replaces(l *logState, it *item, retain Millis, i uint32) (by int, ok bool) {
	r := s.slab.at(i)
	if r.kind != it.kind {
		return 0, false
	}
	switch it.kind {
	case KindLift:
		a, b := it.lift, s.lifts[i]
		more := it.until >= r.until && (a.confirmed || !b.confirmed) && a.includes(b)
		less := r.until >= it.until && (b.confirmed || !a.confirmed) && b.includes(a)
		return s.keepsRicher(l, it, r, more, less)
	case KindGone:
		more := it.until >= r.until && includesGone(it.gone, s.gones[i])
		less := r.until >= it.until && includesGone(s.gones[i], it.gone)
		return s.keepsRicher(l, it, r, more, less)
	case KindBan:
		return cmp.Compare(it.seq, r.seq), r.log == l.index && r.seq != it.seq && s.labels.at(r.label).jail == it.jail
	case KindNeverBan:
		if r.log != l.index {
			return cmp.Or(cmp.Compare(retain, s.retained(i)), s.compareOrder(l, it, r)), true
		}
		return cmp.Compare(it.seq, r.seq), r.seq != it.seq
	case KindAllow, KindPlaced:
		by = cmp.Compare(it.seq, r.seq)
		kept := cmp.Compare(retain, s.retained(i))
		return by, r.log == l.index && by != 0 && by*kept >= 0
	}
	return 0, false
}

// keepsRicher is replaces for two of which one replaces the other if it says no less; of equals the later one is left.
func (s *set) keepsRicher(l *logState, it *item, r *rec, more, less bool) (by int, ok bool) {
	switch {
	case more && less:
		by = s.compareOrder(l, it, r)
		return by, by != 0
	case more:
		return 1, true
	}
	return -1, less
}

func (s *set) compareOrder(l *logState, it *item, r *rec) int {
	return order{it.seq, l.id.Epoch}.compare(s.order(r))
}

// span is what one entry of a Lift's offences names: one start, or all from the first to the last. On the wire a range is its
// last start followed by its first, which a version that knows no ranges reads as two offences.
type span struct {
	origin, jail string
	first, last  Millis
}

func (a span) sameKey(b span) bool { return a.origin == b.origin && a.jail == b.jail }

func (a span) compare(b span) int {
	return cmp.Or(a.compareKey(b), cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last))
}

func (a span) compareKey(b span) int {
	return cmp.Or(cmp.Compare(a.origin, b.origin), cmp.Compare(a.jail, b.jail))
}

// names reports whether a start is within the span.
func (a span) names(start Millis) bool {
	return a.first <= start && start <= a.last || sameStart(a.first, start) || sameStart(a.last, start)
}

// before returns a moment before a start that it names and that it does not name itself.
func (a span) before(start Millis) Millis {
	start = min(a.first, start)
	if b := start - 1; !a.names(b) {
		return b
	}
	return start - second - 1 // beyond what rounding makes equal
}

// absorb extends the range so that it also names what the other one does.
func (a *span) absorb(o span) {
	if o.first == o.last && o.first%second == 0 { // fail2ban's: it names one second before and after as well
		o.first, o.last = o.first-second, o.last+second
	}
	a.first, a.last = min(a.first, o.first), max(a.last, o.last)
}

// rangeAhead is how far beyond its own start a Lift's ranges may name offences: as far as clocks may honestly differ.
const rangeAhead = hour

// liftsAhead reports whether the item is a Lift dated far in the future that has a range: it would name offences that have not
// happened yet. Unattended clocks differ by hours, but not by more than a ban may start ahead.
func (it *item) liftsAhead(now Millis) bool {
	if it.kind != KindLift || it.start <= now+maxAhead {
		return false
	}
	for s := range it.lift.spans {
		if s.first != s.last {
			return true
		}
	}
	return false
}

// spans yields what the offences of a Lift name. A range ends at the Lift's own start, so that no Lift can keep an address from
// ever being banned again.
func (b *liftBody) spans(yield func(span) bool) {
	for i := 0; i < len(b.offences); i++ {
		o := &b.offences[i]
		s := span{o.Origin, o.Jail, o.Start, o.Start}
		if i+1 < len(b.offences) {
			if p := &b.offences[i+1]; p.Start < o.Start && p.Origin == o.Origin && p.Jail == o.Jail {
				s.first = p.Start
				if b.start != 0 {
					s.last = max(s.first, min(s.last, b.start.plus(rangeAhead)))
				}
				i++
			}
		}
		if !yield(s) {
			return
		}
	}
}

// exactOffences is how many offences of one member and jail a Lift names one by one. Older ones become a range, which also
// lifts an offence within it that the writer has not seen.
const exactOffences = 16

// setOffences sets exactly these offences, in any order. It keeps apart two neighbours that would read as a range.
func (b *liftBody) setOffences(offences []offence) {
	spans := make([]span, 0, len(offences))
	for _, o := range offences {
		spans = append(spans, span{o.Origin, o.Jail, o.Start, o.Start})
	}
	b.setSpans(spans)
}

// setSpans makes the offences of a Lift from spans.
func (b *liftBody) setSpans(spans []span) {
	slices.SortFunc(spans, span.compare)
	spans = slices.Compact(spans)
	b.offences = b.offences[:0:0]
	for len(spans) > 0 {
		n := 1
		for n < len(spans) && spans[n].sameKey(spans[0]) {
			n++
		}
		key := spans[:n]
		spans = spans[n:]
		if extra := n - exactOffences; extra > 0 || key[0].first != key[0].last {
			old := key[0]
			old.absorb(old)
			rest := key[1:]
			for len(rest) > 0 && (extra > 0 || rest[0].first <= old.last) {
				old.absorb(rest[0])
				rest = rest[1:]
				extra--
			}
			b.offences = append(b.offences, offence{old.origin, old.jail, old.last})
			if old.first != old.last {
				b.offences = append(b.offences, offence{old.origin, old.jail, old.first})
			}
			key = rest
		}
		for _, k := range key {
			b.offences = append(b.offences, offence{k.origin, k.jail, k.last})
			if k.first != k.last {
				b.offences = append(b.offences, offence{k.origin, k.jail, k.first})
			}
		}
	}
}

// sortedLift is the sorted content of a Lift, so that comparing two takes one pass.
type sortedLift struct {
	spans []span
	dots  []dotRange
}

// keepSorted is how many entries a Lift may have to be sorted anew for each comparison; larger ones keep their sorted form.
const keepSorted = 16

// enter prepares the body of a Lift with that start for the set.
func (b *liftBody) enter(start Millis) {
	b.start = start
	if len(b.offences)+len(b.dots) > keepSorted {
		b.sorted = b.sort()
	}
}

// sort returns copies in an order in which two lifts can be compared in one pass. The body itself
// keeps the order in which it was written, because that is what its hash is over.
func (b *liftBody) sort() *sortedLift {
	if b.sorted != nil {
		return b.sorted
	}
	s := &sortedLift{slices.Collect(b.spans), slices.Clone(b.dots)}
	slices.SortFunc(s.spans, span.compare)
	slices.SortFunc(s.dots, dotRange.compare)
	return s
}

// includes reports whether the Lift names everything that the other one names.
func (b *liftBody) includes(o *liftBody) bool {
	ours, theirs := b.sort(), o.sort()
	return includesSpans(ours.spans, theirs.spans) && includesDots(ours.dots, theirs.dots)
}

// includesSpans reports whether each of theirs is one of ours or lies in a range of ours. Both are sorted.
func includesSpans(ours, theirs []span) bool {
	var key span
	point, reach := Millis(-1), Millis(-1) // among ours that start no later: the last single one, and how far the ranges reach
	for _, t := range theirs {
		for ; len(ours) > 0; ours = ours[1:] {
			o := ours[0]
			if c := o.compareKey(t); c > 0 || c == 0 && o.first > t.first {
				break
			}
			if !o.sameKey(key) {
				key, point, reach = o, -1, -1
			}
			if o.first == o.last {
				point = o.first
			} else {
				reach = max(reach, o.last)
			}
		}
		single := t.first == t.last && point == t.first
		if !key.sameKey(t) || !single && reach < t.last {
			return false
		}
	}
	return true
}

// includesDots reports whether each of theirs lies in one of ours. Both are sorted.
func includesDots(ours, theirs []dotRange) bool {
	var log LogID
	var reach uint64 // among ours that start no later
	for _, t := range theirs {
		for ; len(ours) > 0; ours = ours[1:] {
			o := ours[0]
			if c := o.Log.compare(t.Log); c > 0 || c == 0 && o.First > t.First {
				break
			}
			if o.Log != log {
				log, reach = o.Log, 0
			}
			reach = max(reach, o.Last)
		}
		if log != t.Log || reach < t.Last {
			return false
		}
	}
	return true
}

// with returns the Lift that says what both say.
func (b *liftBody) with(o *liftBody) *liftBody {
	all := &liftBody{confirmed: b.confirmed || o.confirmed}
	all.setSpans(append(slices.Collect(b.spans), slices.Collect(o.spans)...))
	all.dots = append(slices.Clone(b.dots), o.dots...)
	slices.SortFunc(all.dots, dotRange.compare)
	joined := all.dots[:0]
	for _, d := range all.dots {
		if n := len(joined); n > 0 && joined[n-1].Log == d.Log && d.First <= joined[n-1].Last+1 {
			joined[n-1].Last = max(joined[n-1].Last, d.Last)
		} else {
			joined = append(joined, d)
		}
	}
	all.dots = joined
	return all
}

// size is about the length of the Lift's encoding.
func (b *liftBody) size() (n int) {
	for i := range b.offences {
		n += b.offences[i].size()
	}
	for i := range b.dots {
		n += b.dots[i].size()
	}
	return n
}

func (o *offence) size() int { return len(o.Origin) + len(o.Jail) + 13 }

func (d *dotRange) size() int { return len(d.Log.Origin) + 29 }

// foreign reports whether the Lift names records of other authors: such lifts are limited.
func (b *liftBody) foreign(author string) bool {
	return slices.ContainsFunc(b.offences, func(o offence) bool { return o.Origin != author }) ||
		slices.ContainsFunc(b.dots, func(d dotRange) bool { return d.Log.Origin != author })
}
