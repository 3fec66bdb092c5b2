package store

import (
	"context"
	"net/netip"
	"slices"

	"banmesh/store/text"
)

// Allow makes prefixes unbannable, everywhere, until a time.
func (s *Store) Allow(ctx context.Context, reqs []AllowRequest) error {
	prefixes := make([]netip.Prefix, len(reqs))
	for i, q := range reqs {
		prefixes[i] = q.Prefix
		if q.Until != 0 && !q.Until.saneUntil() {
			return &InvalidError{i, q.Prefix, "until is out of range"}
		}
	}
	keys, err := checkPrefixes(prefixes)
	if err != nil {
		return err
	}
	return s.do(ctx, func(p *plan) error {
		for i, q := range reqs {
			until := q.Until
			if until == 0 {
				until = Never
			}
			// One that has ended already would change nothing.
			if until > p.now {
				p.replace(item{kind: KindAllow, key: keys[i], start: p.now, until: until, text: text.Clean(q.Comment, keepText)})
			}
		}
		return nil
	})
}

// dropDots plans the end of the live records of one kind and prefix that pick selects: own ones are withdrawn, those of other
// members are lifted. It reports whether there were any.
func (p *plan) dropDots(kind Kind, k pkey, selected func(*rec) bool) (own bool) {
	it := item{kind: KindLift, key: k, start: p.now, lift: &liftBody{}}
	for c := p.set.head(k); c != 0; {
		r := p.set.slab.at(c)
		if r.kind == kind && !r.is(flagLifted) && r.until > p.now && selected(r) {
			if p.set.originOf(r) == p.own.origin {
				p.withdraw(c)
				own = true
			} else {
				it.lift.dots = append(it.lift.dots, p.dot(r))
				it.until = max(it.until, p.set.retained(c))
			}
		}
		c = r.next
	}
	if len(it.lift.dots) == 0 {
		return own
	}
	if !p.mayLift(it.lift) {
		p.limited = kind != KindPlaced // the next reading of the conductor finds the prefix gone again
		return false
	}
	p.writeLift(it)
	return true
}

// DropAllow lifts every live allow of exactly these prefixes, of any member, and returns how many prefixes had one. With
// ErrLimited it has lifted as many as the limits on lifting other members' records permit.
func (s *Store) DropAllow(ctx context.Context, prefixes []netip.Prefix) (dropped int, err error) {
	return s.dropDots(ctx, KindAllow, prefixes, anyRecord)
}

// Place records that prefixes are about to be put into the conductor, or renews that until a later time.
func (s *Store) Place(ctx context.Context, prefixes []netip.Prefix, until Millis) error {
	keys, err := checkPrefixes(prefixes)
	if err != nil {
		return err
	}
	if !until.saneUntil() {
		return &InvalidError{reason: "until is out of range"}
	}
	for part := range slices.Chunk(keys, maxBatch) {
		err := s.do(ctx, func(p *plan) error {
			if until <= p.now {
				return &InvalidError{reason: "until has passed"}
			}
			for _, k := range part {
				p.replace(item{kind: KindPlaced, key: k, start: p.now, until: until})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Unplace records that prefixes are gone from the conductor.
func (s *Store) Unplace(ctx context.Context, prefixes []netip.Prefix) error {
	_, err := s.dropDots(ctx, KindPlaced, prefixes, anyRecord)
	return err
}

// UnplaceOwn withdraws this member's own Placed records; those of other members stay.
func (s *Store) UnplaceOwn(ctx context.Context, prefixes []netip.Prefix) error {
	_, err := s.dropDots(ctx, KindPlaced, prefixes, func(p *plan, r *rec) bool { return p.set.originOf(r) == p.own.origin })
	return err
}

// Protect replaces the prefixes that are never blocked on this member, whatever any record says. The lease that PublishNeverBan
// writes is not enough for that: anybody with the gossip key can withdraw it or block its author. Protect keeps its list in
// memory only. A change of it is an event.
func (s *Store) Protect(prefixes []netip.Prefix) {
	own := make([]netip.Prefix, 0, len(prefixes))
	for _, p := range prefixes {
		if k, err := keyOf(p); err == nil && !tooWideToExempt(k.prefix()) {
			own = append(own, k.prefix())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(own, s.set.control.own) {
		s.set.control.own = own
		s.set.control.exemptionsVersion++
		s.set.control.protectedVersion++
		s.set.emit(Event{Kind: EventNeverBan, Origin: s.cfg.Origin, Start: s.now()})
		s.collect()
	}
}

// PublishNeverBan replaces the never-ban list that this member has published, in this run or an earlier one. The new lease
// lasts at least as long as the one it replaces.
func (s *Store) PublishNeverBan(ctx context.Context, prefixes []netip.Prefix, until Millis) error {
	if len(prefixes) > maxNeverBans {
		return &InvalidError{index: maxNeverBans, reason: "more than 256 never-ban prefixes"}
	}
	if !until.saneUntil() {
		return &InvalidError{reason: "until is out of range"}
	}
	keys, err := checkPrefixes(prefixes)
	if err != nil {
		return err
	}
	own := make([]netip.Prefix, len(keys))
	for i, k := range keys {
		own[i] = k.prefix()
		if tooWideToExempt(own[i]) {
			return &InvalidError{i, own[i], "never-ban wider than /8 (IPv4) or /16 (IPv6)"}
		}
	}
	return s.do(ctx, func(p *plan) error {
		if until <= p.now {
			return &InvalidError{reason: "until has passed"}
		}
		p.replace(item{kind: KindNeverBan, key: noPrefix, start: p.now, until: until, prefixes: own})
		return nil
	})
}

// replace plans a record that replaces the own ones of its kind and prefix, and keeps their floor.
func (p *plan) replace(it item) {
	s := p.set
	var floor Millis
	for c := s.head(it.key); c != 0; {
		r := s.slab.at(c)
		switch {
		case r.kind != it.kind || s.originOf(r) != p.own.origin:
		case it.kind != KindNeverBan:
			// The Gone names it too: once the newer record is withdrawn in its turn, nothing else shows that this one was
			// replaced.
			p.withdraw(c)
		case r.log == p.own.index:
			floor = max(floor, s.retained(c))
		case s.retained(c) != Never: // likewise: what is kept longer replaces it
			floor = max(floor, s.retained(c)+1)
		}
		c = r.next
	}
	k := planKey{it.kind, it.key, ""}
	if i, ok := p.planned[k]; ok {
		floor = max(floor, p.items[i].until, p.items[i].floor)
	}
	p.planned[k] = len(p.items)
	if floor > it.until {
		it.floor = floor
	}
	p.write(it)
}

// Freeze stops additions, mesh-wide. It does nothing while the own freeze holds.
func (s *Store) Freeze(ctx context.Context) error {
	return s.do(ctx, func(p *plan) error {
		held := false
		p.set.unprefixed(KindFreeze, 0, func(_ uint32, r *rec) { held = held || p.set.originOf(r).name == p.set.self })
		if !held {
			p.write(item{kind: KindFreeze, key: noPrefix, start: p.now, until: Never})
		}
		return nil
	})
}

// Thaw lifts every freeze that this member has seen.
func (s *Store) Thaw(ctx context.Context) error {
	return s.do(ctx, func(p *plan) error {
		p.dropDots(KindFreeze, noPrefix, func(*rec) bool { return true })
		return p.asAWhole()
	})
}

// Block makes everything of a member count for nothing, until Unblock.
func (s *Store) Block(ctx context.Context, origin string) error {
	if err := text.CheckName(origin); err != nil {
		return &InvalidError{reason: "origin " + err.Error()}
	}
	return s.do(ctx, func(p *plan) error {
		held := false
		p.set.unprefixed(KindBlock, 0, func(_ uint32, r *rec) {
			held = held || p.set.labels.at(r.label).jail == origin && p.set.originOf(r).name == p.set.self
		})
		if !held {
			p.write(item{kind: KindBlock, key: noPrefix, start: p.now, until: Never, jail: origin})
		}
		return nil
	})
}

// Unblock lifts every block of a member that this member has seen. On the blocked member itself it affects only its own blocks.
func (s *Store) Unblock(ctx context.Context, origin string) error {
	return s.do(ctx, func(p *plan) error {
		p.dropDots(KindBlock, noPrefix, func(r *rec) bool { return p.set.labels.at(r.label).jail == origin })
		return p.asAWhole()
	})
}

// asAWhole refuses a call if a limit would let only part of it count. A freeze or a block that stays has the
// same effect as all of them.
func (p *plan) asAWhole() error {
	if p.limited {
		p.refused = ErrLimited
	}
	return nil
}

func (p *plan) dot(r *rec) dotRange {
	return dotRange{p.set.logs[r.log].id, seqRange{r.seq, r.seq}}
}

// anyRecord selects all records.
func anyRecord(*plan, *rec) bool { return true }

// dropDots lifts the live records of a kind of exactly these prefixes that are selected.
func (s *Store) dropDots(ctx context.Context, kind Kind, prefixes []netip.Prefix, selected func(*plan, *rec) bool) (dropped int, err error) {
	keys, err := checkPrefixes(prefixes)
	if err != nil {
		return 0, err
	}
	limited := false
	for part := range slices.Chunk(keys, 16384) {
		n := 0
		err := s.do(ctx, func(p *plan) error {
			for _, k := range part {
				if p.dropDots(kind, k, func(r *rec) bool { return selected(p, r) }) {
					n++
				}
			}
			limited = limited || p.limited
			return nil
		})
		if err != nil {
			return dropped, err
		}
		dropped += n
	}
	if limited {
		return dropped, ErrLimited
	}
	return dropped, nil
}
