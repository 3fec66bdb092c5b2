package store

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// A Gone withdraws own records: an allow that its author removed, a prefix that is no longer in the conductor. It remains as
// long as those records could come back from a member that has not heard of it. A newer Gone takes over what the older ones
// say, as far as it fits, and replaces them. It may name every number of its log at which nothing is kept, so neighbouring gaps
// merge into few ranges: an address that comes and goes many times costs one record, not one each time.
//
// A number at which nothing is kept may be that of a lift which a newer lift of its author has replaced. A member that has not
// received the newer one still needs it, so a lift remains, whatever a Gone names, while it covers a record in the root or one
// that may still come.

// goneRange is one range of numbers that a Gone withdraws.
type goneRange struct {
	epoch uint64 // of the log, whose origin is the Gone's own
	seqRange
	until Millis // when all members have forgotten its records
}

// before reports whether the range ends before another one begins: the ranges of a Gone are in this order.
func (g goneRange) before(h goneRange) bool {
	return g.epoch < h.epoch || g.epoch == h.epoch && g.Last < h.First
}

const (
	goneSize = 28  // bytes of a goneRange in its encoding, at most, for honest numbers
	maxGone  = 512 // ranges of a Gone on the wire
	// maxGones is how many Gones of one member are kept. It is enough for 20,000 stretches of withdrawn numbers between records
	// that are kept, and it bounds what a made-up log can cost. An author that would need more lifts its records by dot, as others do.
	maxGones = 512
	// maxAwaiting is how many lifts that a Gone names and that cover nothing yet wait for what they cover. Honest logs have a
	// handful, and each merge may look at all of them.
	maxAwaiting = 256
)

// withdrawable reports whether a Gone can withdraw the record. Bans are lifted instead, and a lease ends or is replaced.
func (it *item) withdrawable() bool {
	switch it.kind {
	case KindAllow, KindPlaced, KindFreeze, KindBlock:
		return true
	case KindLift:
		return len(it.lift.offences) == 0
	}
	return false
}

// withdrawable asks of a stored record what item.withdrawable asks of one that arrives.
func (s *set) withdrawable(i uint32) bool {
	r := s.slab.at(i)
	it := item{kind: r.kind, lift: s.lifts[i]}
	return it.withdrawable()
}

// includesGone reports whether a withdraws everything that b does. Both are in order.
func includesGone(a, b []goneRange) bool {
	for _, y := range b {
		for len(a) > 0 && a[0].before(y) {
			a = a[1:]
		}
		if len(a) == 0 {
			return false
		}
		if x := a[0]; x.epoch != y.epoch || x.First > y.First || y.Last > x.Last || x.until < y.until {
			return false
		}
	}
	return true
}

// namesWhatComes reports whether a Gone of that log names numbers that its author had still to write. No honest one does.
func (it *item) namesWhatComes(l *logState) bool {
	return slices.ContainsFunc(it.gone, func(g goneRange) bool { return g.epoch == l.id.Epoch && g.Last >= it.seq })
}

// byEpoch yields what a Gone names, log by log.
func byEpoch(ranges []goneRange) iter.Seq2[uint64, rangeSet] {
	return func(yield func(uint64, rangeSet) bool) {
		for len(ranges) > 0 {
			epoch := ranges[0].epoch
			var named rangeSet
			for len(ranges) > 0 && ranges[0].epoch == epoch {
				named = named.add(ranges[0].seqRange)
				ranges = ranges[1:]
			}
			if !yield(epoch, named) {
				return
			}
		}
	}
}

// addedGone removes the Gones that a new one replaces, and what it names. It looks only at numbers that no other Gone of the
// origin names.
func (s *set) addedGone(i uint32, old []uint32) {
	o := s.originOf(s.slab.at(i))
	stale := o.goneStale
	for _, c := range old {
		s.remove(c)
	}
	o.goneStale = stale // the new one names what they named
	gone := s.gone(o)
	s.recheckAwaiting()
	for epoch, named := range byEpoch(s.gones[i]) {
		fresh := named.without(gone[epoch])
		gone[epoch] = gone[epoch].union(named)
		l := s.byID[LogID{o.name, epoch}]
		if l == nil {
			continue
		}
		var out []uint32
		for _, g := range fresh {
			for _, c := range l.recs[l.search(&s.slab, g.First):] {
				q := s.slab.at(c)
				if q.seq > g.Last {
					break
				}
				switch {
				case q.is(flagDead) || !s.withdrawable(c):
				case q.kind == KindLift:
					s.spent = append(s.spent, c)
				default:
					out = append(out, c)
				}
			}
		}
		for _, c := range out {
			s.withdraw(c)
		}
	}
}

// gone returns the numbers that the Gones of an origin name, by epoch.
func (s *set) gone(o *origin) map[uint64]rangeSet {
	if !o.goneStale {
		return o.gone
	}
	o.goneStale = false
	var all []goneRange
	for c := s.head(noPrefix); c != 0; {
		r := s.slab.at(c)
		if r.kind == KindGone && s.originOf(r) == o {
			all = append(all, s.gones[c]...)
		}
		c = r.next
	}
	o.gone = make(map[uint64]rangeSet)
	for epoch, named := range byEpoch(joined(all)) {
		o.gone[epoch] = named
	}
	return o.gone
}

// withdraw takes one record out.
func (s *set) withdraw(i uint32) {
	r := s.slab.at(i)
	if kind := withdrawn[r.kind]; kind != 0 && !r.is(flagLifted) && r.until > s.now && !s.allowedAgain(i) {
		e := s.event(kind, r)
		e.By = e.Origin
		s.emit(e)
	}
	s.remove(i)
}

// allowedAgain reports whether the author of an allow has given another one of its prefix that holds.
func (s *set) allowedAgain(i uint32) bool {
	r := s.slab.at(i)
	if r.kind != KindAllow {
		return false
	}
	for c := s.head(r.key()); c != 0; c = s.slab.at(c).next {
		if a := s.slab.at(c); c != i && a.kind == KindAllow && s.originOf(a) == s.originOf(r) && !a.is(flagLifted) && a.until > s.now {
			return true
		}
	}
	return false
}

// isGone reports whether a Gone names the number of a record.
func (s *set) isGone(r *rec) bool {
	l := s.logs[r.log]
	return l.origin.gones > 0 && s.gone(l.origin)[l.id.Epoch].contains(r.seq)
}

// noteSpent notes the lifts of record i, which ceases to be in the root. removeSpent looks which of them a Gone names: where Gones end
// among other records, each look would gather anew what the rest of them name.
func (s *set) noteSpent(i uint32) {
	r := s.slab.at(i)
	if r.kind == KindLift || !s.withdrawable(i) {
		return
	}
	for c := s.head(r.key()); c != 0; {
		l := s.slab.at(c)
		if l.kind == KindLift && s.originOf(l).gones > 0 && s.names(c, r) {
			s.spent = append(s.spent, c)
		}
		c = l.next
	}
}

// removeSpent removes the lifts that a Gone names and that neither cover anything nor may do so later. Of those that may, it
// keeps the first maxAwaiting in an order of the set: those that came first would be others at each member, for good.
func (s *set) removeSpent() {
	if len(s.spent) == 0 {
		return
	}
	s.recheckAwaiting()
	for len(s.spent) > 0 { // what goes with one may spend another
		spent := s.spent
		s.spent = nil
		slices.Sort(spent)
		for _, i := range slices.Compact(spent) {
			r := s.slab.at(i)
			switch {
			case r.kind != KindLift || r.is(flagDead) || !s.withdrawable(i) || !s.isGone(r) || s.covers(s.lifts[i], s.head(r.key()), s.hz.at):
			case s.allKnown(s.lifts[i].dots):
				s.removeLift(i)
			default:
				s.awaiting = append(s.awaiting, i)
			}
		}
	}
	slices.Sort(s.awaiting)
	s.awaiting = slices.Compact(s.awaiting)
	if len(s.awaiting) > maxAwaiting {
		slices.SortFunc(s.awaiting, func(a, b uint32) int {
			return cmp.Or(strings.Compare(s.originOf(s.slab.at(a)).name, s.originOf(s.slab.at(b)).name), s.compareRecords(a, b))
		})
		for _, i := range s.awaiting[maxAwaiting:] {
			s.removeLift(i)
		}
		s.awaiting = s.awaiting[:maxAwaiting]
	}
}

// removeLift removes a lift that covers nothing in the root, and with it what it has lifted. A member whose clock disagrees
// forgets nothing and still holds that; without the lift it would be in force again once that clock is set back and the member
// restarted.
func (s *set) removeLift(i uint32) {
	var lifted []uint32
	for c := s.head(s.slab.at(i).key()); c != 0; c = s.slab.at(c).next {
		if r := s.slab.at(c); r.kind != KindLift && r.is(flagLifted) && s.names(i, r) {
			lifted = append(lifted, c)
		}
	}
	s.remove(i)
	for _, c := range lifted {
		s.remove(c)
	}
}

// needed reports whether a lift covers a record of its prefix, or may do so later.
func (s *set) needed(body *liftBody, k pkey) bool {
	return s.covers(body, s.head(k), s.hz.at) || !s.allKnown(body.dots)
}

// recheckAwaiting has removeSpent look again at the lifts that wait: more has become known of some log.
func (s *set) recheckAwaiting() {
	s.spent = append(s.spent, s.awaiting...)
	s.awaiting = s.awaiting[:0]
}

// allKnown reports whether every number of dots is held or gone, so that none is still on its way.
func (s *set) allKnown(dots []dotRange) bool {
	return !slices.ContainsFunc(dots, func(d dotRange) bool {
		missing := rangeSet{d.seqRange}
		if l := s.byID[d.Log]; l != nil {
			missing = missing.without(l.held)
		}
		if o := s.origins[d.Log.Origin]; o != nil && o.gones > 0 {
			missing = missing.without(s.gone(o)[d.Log.Epoch])
		}
		return len(missing) > 0
	})
}

var withdrawn = [kindEnd]EventKind{KindAllow: EventDisallow, KindFreeze: EventThaw, KindBlock: EventUnblock}

// withdraw plans the withdrawal of an own record; flushGone writes it.
func (p *plan) withdraw(i uint32) {
	p.withdrawn = append(p.withdrawn, i)
}

// flushGone writes the Gones for everything that the call withdraws: one, or as many as its ranges need. Where that would be more
// than are kept, it lifts instead: the Gones of a member may be forged, and must not keep it from withdrawing.
func (p *plan) flushGone() {
	if len(p.withdrawn) == 0 {
		return
	}
	s := p.set
	out := make(map[uint32]bool, len(p.withdrawn)+len(p.goneAlready))
	for _, i := range p.goneAlready { // by earlier calls of the same transaction
		out[i] = true
	}
	var all []goneRange
	for _, i := range p.withdrawn {
		r := s.slab.at(i)
		if !out[i] {
			all = append(all, goneRange{s.logs[r.log].id.Epoch, seqRange{r.seq, r.seq}, max(s.retained(i), p.now).plus(forgetAfter)})
		}
		out[i] = true
	}
	already, fresh := len(p.goneAlready), p.withdrawn
	p.goneAlready, p.withdrawn = append(p.goneAlready, p.withdrawn...), nil
	if len(all) == 0 {
		return
	}
	all = s.stretch(p.own.origin, all, out)

	var own []uint32
	for c := s.head(noPrefix); c != 0; {
		r := s.slab.at(c)
		if r.kind == KindGone && s.originOf(r) == p.own.origin && r.until > p.now {
			own = append(own, c)
		}
		c = r.next
	}
	slices.SortFunc(own, func(a, b uint32) int { return len(s.gones[a]) - len(s.gones[b]) })
	absorbed := 0
	var until Millis // of those that the new one takes over: it replaces none that it does not outlast
	for _, c := range own {
		if (&item{seq: p.next, gone: s.gones[c]}).namesWhatComes(p.own) {
			continue // nobody would take in what it makes of the new one
		}
		old := slices.Clone(s.gones[c])
		for i := range old { // what is over is taken over too, or the old one would stay; but nothing ends before its Gone begins
			old[i].until = max(old[i].until, p.now)
		}
		both := s.stretch(p.own.origin, append(old, all...), out)
		if len(both)*goneSize > liftBytes {
			break
		}
		all, until = both, max(until, s.slab.at(c).until)
		absorbed++
	}
	n := p.own.origin.gones - absorbed + (len(all)+liftBytes/goneSize-1)/(liftBytes/goneSize)
	for i := range p.items {
		if p.items[i].kind == KindGone {
			n++
		}
	}
	if n > maxGones {
		p.goneAlready = p.goneAlready[:already]
		p.liftOwn(fresh)
		return
	}
	for part := range slices.Chunk(all, liftBytes/goneSize) {
		it := item{kind: KindGone, key: noPrefix, start: p.now, until: max(until, p.now), gone: part}
		for _, g := range part {
			it.until = max(it.until, g.until)
		}
		p.write(it)
	}
}

// liftOwn lifts own records by dot. Those that another member has lifted say nothing any more, and a lift cannot be lifted.
func (p *plan) liftOwn(records []uint32) {
	s := p.set
	byKey := make(map[pkey]int) // in lifts
	var lifts []item
	for _, i := range records {
		r := s.slab.at(i)
		if r.kind == KindLift || r.is(flagLifted) {
			continue
		}
		at, ok := byKey[r.key()]
		if !ok {
			at = len(lifts)
			byKey[r.key()] = at
			lifts = append(lifts, item{kind: KindLift, key: r.key(), start: p.now, until: p.now, lift: &liftBody{}})
		}
		it := &lifts[at]
		it.lift.dots = append(it.lift.dots, p.dot(r))
		it.until = max(it.until, s.retained(i))
	}
	for _, it := range lifts {
		p.writeLift(it)
	}
}

// stretch makes each range as long as it can be without naming a record that is kept, and joins ranges that then touch.
func (s *set) stretch(o *origin, ranges []goneRange, out map[uint32]bool) []goneRange {
	ranges = joined(ranges) // numbers written together become one range and are examined once
	for i := range ranges {
		g := &ranges[i]
		l := s.byID[LogID{o.name, g.epoch}]
		if l == nil {
			continue
		}
		at := l.held.search(g.First)
		if at == len(l.held) || l.held[at].First > g.First {
			continue
		}
		keep := func(c uint32) bool {
			return !s.slab.at(c).is(flagDead) && !out[c] && s.withdrawable(c)
		}
		first, last := l.held[at].First, max(g.Last, l.held[at].Last)
		from := l.search(&s.slab, g.First)
		for j := from - 1; j >= 0; j-- {
			if c := l.recs[j]; keep(c) {
				first = max(first, s.slab.at(c).seq+1)
				break
			}
		}
		for j := l.search(&s.slab, g.Last+1); j < len(l.recs); j++ {
			if c := l.recs[j]; keep(c) {
				last = min(last, s.slab.at(c).seq-1)
				break
			}
		}
		g.First, g.Last = min(g.First, first), max(g.Last, last)
	}
	return joined(ranges)
}

// joined sorts ranges and joins those that touch.
func joined(ranges []goneRange) []goneRange {
	slices.SortFunc(ranges, func(a, b goneRange) int { return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.First, b.First)) })
	out := ranges[:0]
	for _, g := range ranges {
		if n := len(out); n > 0 && out[n-1].epoch == g.epoch && g.First <= out[n-1].Last+1 {
			out[n-1].Last = max(out[n-1].Last, g.Last)
			out[n-1].until = max(out[n-1].until, g.until)
		} else {
			out = append(out, g)
		}
	}
	return out
}

// tidyAfter is how long records that another member has lifted are left alone, so that no member hears of the end of both
// records before that of one.
const tidyAfter = 10 * minute

// tidy withdraws own records that no longer say anything: Placed records whose prefix another leader has seen gone, and lifts
// of records that are no longer held.
func (p *plan) tidy() {
	s := p.set
	for i := range s.placed {
		if r := s.slab.at(i); s.originOf(r) == p.own.origin && r.is(flagLifted) && r.start+tidyAfter <= p.now {
			p.withdraw(i)
		}
	}
	for i, body := range s.lifts {
		r := s.slab.at(i)
		if len(body.offences) > 0 || s.originOf(r) != p.own.origin || r.start+tidyAfter > p.now || !s.allKnown(body.dots) {
			continue
		}
		if !s.covers(body, s.head(r.key()), 0) {
			p.withdraw(i)
		}
	}
}
