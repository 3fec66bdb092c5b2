package store

import (
	"context"
	"net/netip"
	"slices"

	"banmesh/store/text"
)

// ManualJail is the jail of bans that an operator gave by hand. No fail2ban knows it, and nobody else need have seen what the
// operator means.
const ManualJail = "manual"

const (
	// Without Force a ban is at most that wide; one that covers every address is never accepted.
	maxAhead    = 24 * hour // how far in the future a ban may start
	widestBanV4 = 16        // prefix length of the widest ban without Force
	widestBanV6 = 32
)

// Ban records bans. They are on disk and visible when it returns, one answer for each request. If one request is invalid,
// none is written and the error is an *InvalidError. An error of the disk may leave some of a call of more than 65,536
// requests written; the same call can be made again.
//
// A ban never ends earlier than a live own ban of the same jail and prefix. One of an offence that was lifted stays lifted.
func (s *Store) Ban(ctx context.Context, reqs []BanRequest) ([]Banned, error) {
	return s.ban(ctx, reqs, s.do)
}

// WouldBan returns what Ban would, and writes nothing.
func (s *Store) WouldBan(ctx context.Context, reqs []BanRequest) ([]Banned, error) {
	return s.ban(ctx, reqs, s.preview)
}

// ban checks every request before it writes anything, so that an invalid one leaves nothing behind.
// Then do runs each part of at most maxBatch as one transaction: after an error the parts before it
// are given all the same. do is the caller's way into the queue of the writer.
func (s *Store) ban(ctx context.Context, reqs []BanRequest, do func(context.Context, func(*plan) error) error) ([]Banned, error) {
	now := s.now()
	bans := make([]banPlan, len(reqs))
	for i := range reqs {
		if reason := bans[i].check(&reqs[i], now); reason != "" {
			return nil, &InvalidError{i, reqs[i].Prefix, reason}
		}
	}
	out := make([]Banned, len(reqs))
	for from := 0; from < len(reqs); from += maxBatch {
		to := min(len(reqs), from+maxBatch)
		part := make([]Banned, to-from)
		err := do(ctx, func(p *plan) error {
			p.items = slices.Grow(p.items, len(part))
			if len(p.planned) == 0 {
				p.planned = make(map[planKey]int, len(part))
			}
			for i := range part {
				part[i] = p.ban(&bans[from+i], Millis(s.cfg.MaxDuration.Milliseconds()), s.cfg.Limits)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		copy(out[from:], part)
	}
	return out, nil
}

// HasOffence reports whether an own ban of the jail and prefix that started then is held, live or not, or a lift that names it.
func (s *Store) HasOffence(jail string, p netip.Prefix, start Millis) bool {
	k, err := keyOf(p)
	if err != nil {
		return false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for c := s.set.head(k); c != 0; {
		r := s.set.slab.at(c)
		switch {
		case r.kind == KindLift && s.set.lifts[c].names(s.set.self, jail, start):
			return true
		case r.kind == KindBan && s.set.originOf(r).name == s.set.self && s.set.labels.at(r.label).jail == jail && sameStart(r.start, start):
			return true
		}
		c = r.next
	}
	return false
}

// banPlan is a BanRequest that was found valid.
type banPlan struct {
	*BanRequest
	key    pkey
	jail   string
	reason string
}

// check returns why the request is refused, or "".
func (b *banPlan) check(q *BanRequest, now Millis) (reason string) {
	k, err := keyOf(q.Prefix)
	if err != nil {
		return err.Error()
	}
	b.BanRequest, b.key, b.jail, b.reason = q, k, q.Jail, text.Clean(q.Reason, keepText)
	if b.jail == "" {
		b.jail = ManualJail
	}
	switch {
	case text.CheckName(b.jail) != nil:
		return "jail " + text.CheckName(b.jail).Error()
	case !q.Force && (k.is4() && k.length() < widestBanV4 || !k.is4() && k.length() < widestBanV6):
		return "wider than /16 (IPv4) or /32 (IPv6): needs --force"
	case !q.Start.sane():
		return "start is out of range"
	case q.Start > now+maxAhead:
		return "start is more than 24 h in the future"
	case !q.Until.saneUntil():
		return "until is out of range"
	case q.Until > now && q.Until <= q.Start:
		return "ends before it starts"
	}
	return ""
}

// ban decides what a request means beside what is held and planned, and plans the record.
func (p *plan) ban(b *banPlan, maxDuration Millis, limits Limits) Banned {
	start, until := b.Start, b.Until
	if start == 0 {
		start = p.freshStart(b)
	}
	if maxDuration > 0 && !b.Force {
		until = min(until, start.plus(maxDuration))
	}
	if until <= p.now {
		return Banned{Outcome: BanExpired}
	}
	h := p.held(b, start)
	if h.lifted {
		p.notify(Notice{Kind: NoticeUnban, Prefix: b.key.prefix(), Jail: b.jail, Start: start, Until: until})
		return Banned{Outcome: BanStaysLifted}
	}
	outcome := BanNew
	failures := b.Failures
	if h.live {
		// fail2ban rounds times to seconds, so the same offence one second later is not news. Neither is an older offence that
		// ends no later: merging the two would give the older start the newer offence's later end.
		if (h.same || start < h.start) && until <= h.until.plus(second) {
			p.used = p.used || h.planned
			return Banned{BanKnown, h.start, h.until}
		}
		outcome = BanExtended
		if h.same {
			start, failures = h.start, max(failures, h.failures)
			if maxDuration > 0 && !b.Force {
				until = min(until, start.plus(maxDuration))
			}
		}
		until = max(until, h.until)
	}
	if n := limits.LivePerOrigin; outcome == BanNew && n > 0 && limits.StoredPerOrigin > 0 &&
		p.own.origin.records+len(p.items) >= limits.StoredPerOrigin {
		return Banned{Outcome: BanOverLimit}
	}
	if !h.replaces && p.set.crowded(p.own.origin, b.key, h.chain) {
		return Banned{Outcome: BanOverLimit} // the peers would refuse it
	}
	it := item{kind: KindBan, key: b.key, start: start, until: until, failures: failures, jail: b.jail, text: b.reason}
	if h.floor > until {
		it.floor = h.floor
	}
	p.planned[planKey{KindBan, b.key, b.jail}] = len(p.items)
	p.write(it)
	return Banned{outcome, start, until}
}

// heldBan sums up this member's own bans of one jail and prefix.
type heldBan struct {
	lifted   bool   // the offence was lifted
	live     bool   // there is a live one
	same     bool   // a live one is of the same offence
	planned  bool   // the ban found is planned and not on disk yet
	replaces bool   // the log holds a ban that the new one replaces
	start    Millis // of the live ban
	until    Millis // the latest until of the live ones
	failures uint32
	floor    Millis // the latest until of what a new record replaces
	chain    chainCount
}

// held returns what this member holds already of the offence that a request is about, on disk and in the same plan. Records of all
// its epochs count, since a wiped store makes a new one, but only one in the log that is being written is replaced. A start that
// agrees to the second outranks every other: it is the same offence, told once more.
func (p *plan) held(b *banPlan, start Millis) (h heldBan) {
	meet := func(from, until, floor Millis, failures uint32, live, own bool) {
		if own {
			h.replaces = true
			h.floor = max(h.floor, until, floor)
		}
		if !live {
			return
		}
		same := sameStart(from, start)
		switch {
		case !h.live || same && !h.same:
			h.start, h.failures = from, failures
		case same == h.same:
			h.start, h.failures = max(h.start, from), max(h.failures, failures)
		}
		h.live, h.same = true, h.same || same
		h.until = max(h.until, until)
	}
	s := p.set
	planned, isPlanned := p.planned[planKey{KindBan, b.key, b.jail}]
	for c := s.head(b.key); c != 0; {
		r := s.slab.at(c)
		h.chain.all++
		if s.originOf(r) == p.own.origin {
			h.chain.origin++
		}
		switch {
		case r.kind == KindLift && s.lifts[c].names(s.self, b.jail, start):
			if !r.is(flagOver) && !s.originOf(r).blocked {
				h.lifted = true
			}
		case r.kind == KindBan && s.originOf(r).name == s.self && s.labels.at(r.label).jail == b.jail:
			inLog := r.log == p.own.index
			if inLog && isPlanned {
				break // the planned ban replaces it, floor included
			}
			meet(r.start, r.until, s.floors[c], r.failures, !r.is(flagLifted) && r.until > p.now, inLog)
		}
		c = r.next
	}
	if isPlanned {
		it := &p.items[planned]
		h.planned = true
		meet(it.start, it.until, it.floor, it.failures, true, true)
	}
	return h
}

// freshStart is the start of a ban for which no time was given: now. Given again within a second it is the same ban. If now
// falls into an offence that was lifted, freshStart moves back to the last moment outside it: an operator who bans again what
// was just lifted means it, and a start in the future would show up as a lie everywhere.
func (p *plan) freshStart(b *banPlan) Millis {
	if start, ok := p.justGiven(b); ok {
		return start
	}
	s, start := p.set, p.now
	again := true
	for range maxFreshSteps {
		if !again {
			return start
		}
		again = false
		for c := s.head(b.key); c != 0; {
			r := s.slab.at(c)
			if r.kind == KindLift {
				if named, ok := s.lifts[c].naming(s.self, b.jail, start); ok {
					start, again = named.before(start), true
				}
			}
			c = r.next
		}
		if start < 0 { // the lifts reach back to the beginning of time
			return p.now
		}
	}
	return p.now
}

// maxFreshSteps bounds how many lifts freshStart steps over: honest members leave only a few for each prefix.
const maxFreshSteps = 256

// justGiven returns the start of the live own ban of the jail that started within the last second.
func (p *plan) justGiven(b *banPlan) (start Millis, ok bool) {
	s := p.set
	just := func(start Millis) bool { return p.now-second <= start && start <= p.now+second }
	if i, planned := p.planned[planKey{KindBan, b.key, b.jail}]; planned && just(p.items[i].start) {
		return p.items[i].start, true
	}
	for c := s.head(b.key); c != 0; {
		r := s.slab.at(c)
		if r.kind == KindBan && !r.is(flagLifted) && r.until > p.now && just(r.start) &&
			s.originOf(r).name == s.self && s.labels.at(r.label).jail == b.jail {
			return r.start, true
		}
		c = r.next
	}
	return 0, false
}

// checkPrefixes checks what a call names and returns the keys.
func checkPrefixes(prefixes []netip.Prefix) ([]pkey, error) {
	keys := make([]pkey, len(prefixes))
	for i, p := range prefixes {
		k, err := keyOf(p)
		if err != nil {
			return nil, &InvalidError{i, p, err.Error()}
		}
		keys[i] = k
	}
	return keys, nil
}
