package store

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Explain returns everything held that covers a prefix: bans (live, lifted, or expired but not yet forgotten), lifts, allows
// and never-bans, and whether it is banned and effective. For a network it also returns the allows and never-bans inside, which
// cut holes into its bans, and counts the bans inside.
func (s *Store) Explain(p netip.Prefix) Explanation {
	var x Explanation
	p = netip.PrefixFrom(p.Addr().Unmap().WithZone(""), p.Bits()).Masked()
	k, err := keyOf(p)
	if err != nil {
		return x
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	now := s.now()
	see := func(head uint32) {
		for c := head; c != 0; {
			r := s.set.slab.at(c)
			if r.kind == KindBan && liveBan(r, now) && s.set.counting(r) {
				x.Banned = true
			}
			x.Facts = append(x.Facts, s.fact(r, now))
			c = r.next
		}
	}
	s.set.wider(k, func(_ pkey, head uint32) { see(head) })
	see(s.set.head(k))
	if !p.IsSingleIP() {
		s.inside(&x, k, now)
	}
	slices.SortStableFunc(x.Facts, func(a, b Fact) int {
		return cmp.Or(comparePrefixes(a.Prefix, b.Prefix), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Origin, b.Origin), cmp.Compare(a.Start, b.Start))
	})
	for _, b := range builtin() {
		if b.Overlaps(p) {
			x.Facts = append(x.Facts, Fact{Kind: KindNeverBan, Prefix: b, Until: Never, Text: "built in", State: FactLive})
		}
	}
	var leased []netip.Prefix // never-bans from this member's own lease
	for _, i := range s.set.neverBans(now) {
		r := s.set.slab.at(i)
		if s.set.originOf(r).name == s.set.self {
			leased = s.set.never[i]
		}
		kept := leaseHolds(s.set.never[i])
		for _, n := range s.set.never[i] {
			if !n.Overlaps(p) {
				continue
			}
			f := Fact{Kind: KindNeverBan, Prefix: n, Origin: s.set.originOf(r).name, Start: r.start, Until: r.until, State: FactLive}
			if !slices.Contains(kept, n) {
				f.State, f.Why = FactIgnored, "origin "+f.Origin+" protects more than one /8 (IPv4) or /16 (IPv6)"
			}
			x.Facts = append(x.Facts, f)
		}
	}
	// What Protect names is exempt here whatever records say, also while the lease does not name it.
	for _, n := range s.set.control.own {
		if n.Overlaps(p) && !slices.Contains(leased, n) {
			x.Facts = append(x.Facts, Fact{Kind: KindNeverBan, Prefix: n, Origin: s.set.self, Until: Never, State: FactLive})
		}
	}
	if x.Banned {
		exemptions := s.exemptionsLocked(now)
		if exemptions.covers(p) {
			x.Exemption = s.exemptionReason(p, now)
		} else {
			x.Except = exemptions.cutOut(p)
		}
	}
	return x
}

// inside adds what is held within a network and matters to it: the allows, which exempt a part of it, and the number of bans.
func (s *Store) inside(x *Explanation, k pkey, now Millis) {
	s.set.allows.within(k, func(i uint32) bool {
		if r := s.set.slab.at(i); r.key() != k && r.until > now && !r.is(flagLifted) {
			x.Facts = append(x.Facts, s.fact(r, now))
		}
		return true
	})
	s.set.within(k, func(w pkey, head uint32) {
		if w == k {
			return
		}
		for c := head; c != 0; {
			r := s.set.slab.at(c)
			if liveBan(r, now) && s.set.counting(r) {
				x.Inside++
				return
			}
			c = r.next
		}
	})
}

// fact words one record for `banmesh why`. The end is looked at first: an expired record shows as
// expired even if a lift names it. Called with mu held.
func (s *Store) fact(r *rec, now Millis) Fact {
	l := s.set.labels.at(r.label)
	f := Fact{Kind: r.kind, Prefix: r.key().prefix(), Origin: s.set.originOf(r).name, Jail: l.jail, Start: r.start, Until: r.until, Failures: r.failures, Text: l.shown(), State: FactLive}
	switch {
	case r.until <= now:
		f.State = FactExpired
	case r.is(flagLifted):
		f.State = FactLifted
	case !s.set.counting(r) && r.kind != KindPlaced:
		f.State, f.Why = FactIgnored, s.set.ignored(r)
	}
	if r.is(flagLifted) {
		for c := s.set.head(r.key()); c != 0; {
			q := s.set.slab.at(c)
			if q.kind == KindLift && s.set.names(c, r) && s.set.counts(c, r) {
				if name := s.set.originOf(q).name; !slices.Contains(f.By, name) {
					f.By = append(f.By, name)
				}
			}
			c = q.next
		}
		slices.Sort(f.By)
	}
	return f
}

// Gone says why a placed prefix is no longer wanted, from the records of it and of what covers it.
func (s *Store) Gone(p netip.Prefix) Gone {
	k, err := keyOf(p)
	if err != nil {
		return Gone{}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	now := s.now()
	var live, lifted, confirmed, expired bool
	see := func(head uint32) {
		for c := head; c != 0; {
			r := s.set.slab.at(c)
			switch {
			case r.kind != KindBan:
			case r.until <= now:
				expired = true
			case r.is(flagLifted):
				// Every one of them must be confirmed: a removal that one unconfirmed lift brings about is not.
				by := s.confirmed(r)
				confirmed = by && (confirmed || !lifted)
				lifted = true
			case s.set.originOf(r).blocked: // an operator blocked the origin, and that lifts many at once
				confirmed = confirmed || !lifted
				lifted = true
			// Beyond a limit it does not count, which is nobody's word.
			case r.is(flagOver):
				confirmed, lifted = false, true
			default:
				live = true
			}
			c = r.next
		}
	}
	s.set.wider(k, func(_ pkey, head uint32) { see(head) })
	see(s.set.head(k))
	switch {
	// A ban is still live, and an allow or a never-ban cuts into it.
	case live && s.exemptionsLocked(now).overlap(p) != overlapsNot:
		return Gone{Cause: GoneAllowed}
	case live:
		return Gone{Cause: GoneNot}
	case lifted:
		return Gone{GoneLifted, confirmed}
	case expired:
		return Gone{Cause: GoneExpired}
	}
	return Gone{}
}

// confirmed reports whether an operator confirmed one of the lifts that count for the record.
func (s *Store) confirmed(r *rec) bool {
	for c := s.set.head(r.key()); c != 0; {
		l := s.set.slab.at(c)
		if l.kind == KindLift && s.set.lifts[c].confirmed && s.set.names(c, r) && s.set.counts(c, r) {
			return true
		}
		c = l.next
	}
	return false
}

// Placed returns what was put into the conductor and not seen gone, ordered by address. Placed records of blocked members are
// included: otherwise what they placed would stay in the conductor for ever.
func (s *Store) Placed() []PlacedEntry {
	out := slices.Collect(maps.Values(s.PlacedBy(func(string, netip.Prefix) bool { return true })))
	slices.SortFunc(out, func(a, b PlacedEntry) int { return comparePrefixes(a.Prefix, b.Prefix) })
	return out
}

// PlacedBy is Placed by prefix, of those records alone that take accepts, which is given who wrote each and what it is
// of. take must not call the store.
func (s *Store) PlacedBy(take func(origin string, p netip.Prefix) bool) map[netip.Prefix]PlacedEntry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	now := s.now()
	held := make(map[netip.Prefix]PlacedEntry, len(s.set.placed))
	for i := range s.set.placed {
		r := s.set.slab.at(i)
		if r.is(flagLifted) || r.until <= now {
			continue
		}
		p := r.key().prefix()
		if !take(s.set.originOf(r).name, p) {
			continue
		}
		e, known := held[p]
		if !known {
			e = PlacedEntry{Prefix: p, First: r.start}
		}
		// Each leader that has placed it has a record of it: the longest lease counts.
		e.Start, e.Until, e.First = max(e.Start, r.start), max(e.Until, r.until), min(e.First, r.start)
		held[p] = e
	}
	return held
}

// Allows returns the live allows, in the order of addresses.
func (s *Store) Allows() []AllowEntry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	now := s.now()
	var out []AllowEntry
	s.set.allows.all(func(i uint32) {
		if r := s.set.slab.at(i); !r.is(flagLifted) && r.until > now {
			out = append(out, AllowEntry{r.key().prefix(), r.until, s.set.labels.at(r.label).shown(), r.start, s.set.originOf(r).name, s.set.ignored(r)})
		}
	})
	slices.SortFunc(out, func(a, b AllowEntry) int {
		return cmp.Or(comparePrefixes(a.Prefix, b.Prefix), cmp.Compare(a.Origin, b.Origin), cmp.Compare(a.Until, b.Until))
	})
	return out
}

// NeverBans returns the prefixes of the members' leases that count, member by member. It leaves out the built-in ones.
func (s *Store) NeverBans() []NeverBanEntry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []NeverBanEntry
	for _, i := range s.set.neverBans(s.now()) {
		r := s.set.slab.at(i)
		for _, p := range leaseHolds(s.set.never[i]) {
			out = append(out, NeverBanEntry{p, s.set.originOf(r).name})
		}
	}
	return out
}

// Frozen reports whether additions are stopped, and by which member (the first by name).
func (s *Store) Frozen() (frozen bool, by string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if f := s.set.control.frozen; len(f) > 0 {
		return true, f[0]
	}
	return false, ""
}

// Said is that a member stated something, and when.
type Said struct {
	By string
	At Millis
}

// Freezers returns the members that have stopped additions, the first to do so first.
func (s *Store) Freezers() []Said {
	return s.said(KindFreeze, func(r *rec) bool { return !s.set.originOf(r).blocked })
}

// Blockers returns the members that have blocked a member, the first to do so first, whether or not their block counts.
func (s *Store) Blockers(name string) []Said {
	return s.said(KindBlock, func(r *rec) bool { return s.set.labels.at(r.label).jail == name })
}

// said returns who wrote the records of a kind without prefix, and when, oldest first.
func (s *Store) said(kind Kind, selected func(*rec) bool) (out []Said) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.set.unprefixed(kind, 0, func(_ uint32, r *rec) {
		if selected(r) {
			out = append(out, Said{s.set.originOf(r).name, r.start})
		}
	})
	slices.SortFunc(out, func(a, b Said) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.By, b.By)) })
	return out
}

// Excess counts the records of one origin that are held and do not count because they exceed a limit.
type Excess struct {
	Origin              string
	Bans, Lifts, Allows int
	NeverBans           int  // prefixes of its lease
	Strange             bool // it is missing from the configured members, so nothing of it counts
}

// Exceeding returns the origins that exceed a limit, by name.
func (s *Store) Exceeding() []Excess {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []Excess
	never := make(map[string]int)
	for _, i := range s.set.neverBans(s.now()) {
		if n := len(s.set.never[i]) - len(leaseHolds(s.set.never[i])); n > 0 {
			never[s.set.originOf(s.set.slab.at(i)).name] = n
		}
	}
	for name, o := range s.set.origins {
		e := Excess{name, o.over[KindBan], o.over[KindLift], o.over[KindAllow], never[name], o.unlisted && o.records > 0}
		// An origin with nothing to say of it is left out.
		if e != (Excess{Origin: name}) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b Excess) int { return cmp.Compare(a.Origin, b.Origin) })
	return out
}

// Ignores reports whether nothing of the member counts: it is blocked, or missing from the configured members.
func (s *Store) Ignores(name string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.set.ignores(name)
}

// Blocked returns the members whose records do not count, by name.
func (s *Store) Blocked() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.set.control.blocks)
}
