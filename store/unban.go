package store

import (
	"context"
	"net/netip"
	"slices"
)

// liftBytes bounds the offences of one Lift record, so that it fits a packet; further ones go into another record.
const liftBytes = maxRecord - 64

// Lift lifts bans, durably. A Lift names every offence of the prefix that this member has seen and that matches the request,
// and covers every ban of those offences, including later ones; an offence that this member has not seen survives. Lift returns
// one Lifted for each requested prefix, in order, or, for All and Origin without prefixes, one for each prefix that had a live
// ban.
func (s *Store) Lift(ctx context.Context, q LiftRequest) ([]Lifted, error) {
	return s.lift(ctx, q, s.do)
}

// WouldLift returns what Lift would, and writes nothing.
func (s *Store) WouldLift(ctx context.Context, q LiftRequest) ([]Lifted, error) {
	return s.lift(ctx, q, s.preview)
}

// lift writes one lift for each prefix, in transactions of a bounded size. Without prefixes it
// lifts everything, or everything of one origin, and then reports only prefixes that had something
// to lift; a prefix that was asked for is always reported.
func (s *Store) lift(ctx context.Context, q LiftRequest, do func(context.Context, func(*plan) error) error) ([]Lifted, error) {
	keys, err := checkPrefixes(q.Prefixes)
	if err != nil {
		return nil, err
	}
	everywhere := len(keys) == 0 && (q.All || q.Origin != "")
	if everywhere {
		keys = s.bannedKeys()
	}
	out := make([]Lifted, 0, len(keys))
	for part := range slices.Chunk(keys, 16384) {
		lifted := make([]Lifted, len(part))
		err := do(ctx, func(p *plan) error {
			for i, k := range part {
				lifted[i] = p.lift(k, &q)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		for _, l := range lifted {
			if !everywhere || l.Offences > 0 {
				out = append(out, l)
			}
		}
	}
	return out, nil
}

// bannedKeys returns the prefixes with any ban, in order.
func (s *Store) bannedKeys() []pkey {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var keys []pkey
	for _, head := range s.set.table.slots {
		// Freezes, blocks and leases have no prefix, and share that place.
		if head != 0 && s.set.slab.at(head).bits != noPrefix.bits {
			keys = append(keys, s.set.slab.at(head).key())
		}
	}
	slices.SortFunc(keys, pkey.compare)
	return keys
}

// selects reports whether the request means the ban.
func (q *LiftRequest) selects(s *set, r *rec) bool {
	origin := s.originOf(r).name
	switch {
	case q.Mine && origin != s.self, q.Origin != "" && origin != q.Origin, q.Jail != "" && s.labels.at(r.label).jail != q.Jail:
		return false
	}
	return r.start >= q.Since && (q.StartedBefore == 0 || r.start < q.StartedBefore)
}

// lift plans the lift of one prefix. It also names expired bans, so that a member that has not seen the lift cannot prolong
// them, but they alone are no reason to write one.
func (p *plan) lift(k pkey, q *LiftRequest) Lifted {
	s := p.set
	l := Lifted{Prefix: k.prefix()}
	var offences, live []offence
	var until Millis
	var notices []Notice
	for c := s.head(k); c != 0; {
		r := s.slab.at(c)
		if r.kind == KindBan && !r.is(flagLifted) && q.selects(s, r) {
			o := offence{s.originOf(r).name, s.labels.at(r.label).jail, r.start}
			if !slices.Contains(offences, o) {
				offences = append(offences, o)
			}
			if r.until > p.now && !slices.ContainsFunc(live, o.same) { // one record of an offence may have expired and another not
				live = append(live, o)
				l.Offences++
			}
			// This router's own fail2ban has to hear of it, unless it is fail2ban itself that lifts.
			if r.until > p.now && o.Origin == s.self && !q.FromFail2ban {
				notices = append(notices, Notice{Kind: NoticeUnban, Prefix: l.Prefix, Jail: o.Jail, Start: r.start, Until: r.until})
			}
			// As long as a record of the offence can be live at any member, since one may come that this member
			// has not seen.
			until = max(until, s.retained(c), r.start.plus(p.life))
		}
		c = r.next
	}
	body := &liftBody{confirmed: q.Confirmed}
	body.setOffences(offences)
	if l.Offences > 0 && !p.mayLift(body) {
		l.Limited = true
	} else if l.Offences > 0 {
		p.writeLift(item{kind: KindLift, key: k, start: p.now, until: max(until, p.now), lift: body})
		for _, n := range notices {
			p.notify(n)
		}
	}
	l.Covering = s.covering(k, p.now)
	return l
}

// mayLift reports whether a lift of the offences would count: one beyond the limits is better not written at all.
func (p *plan) mayLift(body *liftBody) bool {
	l, o := &p.set.limits, p.own.origin
	// Limits are on what a member takes back from others; of its own it may lift anything.
	if !body.foreign(p.set.self) || l.LiftsPerOrigin == 0 && l.LiftsPerMinute == 0 {
		return true
	}
	n := p.lifts + 1 + body.size()/liftBytes // about how many records it takes
	if l.LiftsPerOrigin > 0 && o.lifts+n > l.LiftsPerOrigin || !p.set.inTime(o, floorDiv(int64(p.now), int64(minute)), n) {
		return false
	}
	p.lifts = n
	return true
}

// writeLift writes a lift that takes over what this member's earlier lifts of the prefix say, as many as fit one record, and
// replaces them. A lift that is exempt from the limits takes over none that counts towards them.
func (p *plan) writeLift(it item) {
	s := p.set
	var own []uint32
	foreign := it.lift.foreign(s.self)
	for c := s.head(it.key); c != 0; {
		r := s.slab.at(c)
		if r.kind == KindLift && s.originOf(r) == p.own.origin && s.lifts[c].retain > p.now &&
			(len(s.lifts[c].offences) > 0) == (len(it.lift.offences) > 0) && (foreign || !r.is(flagForeign)) {
			own = append(own, c)
		}
		c = r.next
	}
	// The smallest first, so that most of them fit.
	slices.SortFunc(own, func(a, b uint32) int { return s.lifts[a].size() - s.lifts[b].size() })
	for _, c := range own {
		if all := it.lift.with(s.lifts[c]); all.size() <= liftBytes {
			it.lift = all
			it.until = max(it.until, s.slab.at(c).until)
		}
	}
	p.splitLift(it)
}

// splitLift writes a lift in as many records as its offences and dots need.
func (p *plan) splitLift(it item) {
	all := it.lift
	all.setSpans(slices.Collect(all.spans))
	body := &liftBody{confirmed: all.confirmed}
	size := 0
	room := func(n int) {
		if size+n > liftBytes && size > 0 {
			body.retain = it.until
			part := it
			part.lift = body
			p.write(part)
			body, size = &liftBody{confirmed: all.confirmed}, 0
		}
		size += n
	}
	for s := range all.spans {
		o := offence{s.origin, s.jail, s.last}
		if s.first == s.last {
			room(o.size())
			body.offences = append(body.offences, o)
			continue
		}
		room(2 * o.size())
		body.offences = append(body.offences, o, offence{s.origin, s.jail, s.first})
	}
	for _, d := range all.dots {
		room(d.size())
		body.dots = append(body.dots, d)
	}
	if size > 0 {
		// More than any record holds, so that what is left is written.
		room(liftBytes + 1)
	}
}

// covering returns the wider prefixes with a live ban, widest first.
func (s *set) covering(k pkey, now Millis) (out []netip.Prefix) {
	s.wider(k, func(w pkey, head uint32) {
		for c := head; c != 0; {
			r := s.slab.at(c)
			if r.kind == KindBan && !r.is(flagLifted) && r.until > now && s.ignored(r) == "" {
				out = append(out, w.prefix())
				return
			}
			c = r.next
		}
	})
	return out
}

// wider calls f with the held prefixes that cover k, other than k, widest first. It looks up only the lengths that occur.
func (s *set) wider(k pkey, f func(w pkey, head uint32)) {
	first, lens := uint8(1), &s.lens[family(k)]
	if k.is4() {
		// IPv4 is mapped into ::ffff:0:0/96, where its /1 has this length.
		first = 97
	}
	for n := first; n < k.bits; n++ {
		if lens[n] == 0 {
			continue
		}
		w := k.masked(n)
		if head := s.head(w); head != 0 {
			f(w, head)
		}
	}
}
