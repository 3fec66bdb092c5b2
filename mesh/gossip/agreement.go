package gossip

import "time"

// patience is how long a member may leave a probe unanswered before its state becomes unknown.
// Three probes: a single lost packet is common on a WAN, three in a row are not.
func (t *table) patience() time.Duration { return 3 * t.every }

// silent reports whether the member has not answered by UDP for that long. Called with the lock held.
func (t *table) silent(p *peer, now time.Time) bool {
	return p.state == Alive && !p.unanswered.IsZero() && now.Sub(p.unanswered) > t.patience()
}

// agrees says what is known of a member's root. Called with the lock held.
func (t *table) agrees(p *peer, now time.Time) Agreement {
	if p.state != Alive || t.silent(p, now) && now.Sub(p.compared) > t.patience() {
		return Unknown
	}
	return p.sync
}

// mute says in which direction UDP does not pass. Streams that do pass distinguish this from a member that has just died.
// Called with the lock held.
func (t *table) mute(p *peer, now time.Time) MuteDirection {
	switch {
	case !t.silent(p, now) || !p.stream.After(p.unanswered.Add(t.patience())) || now.Sub(p.stream) > 3*t.patience():
		return MuteNone
	// Nothing arrives from there. If packets arrive and our questions stay unanswered, ours are the ones that are lost.
	case now.Sub(p.packet) > t.patience():
		return MuteFrom
	}
	return MuteTo
}

// answerWithin is how long this member waits for an answer by UDP before it opens a stream. It is well before the member counts
// as silent: a ban has to cross within three seconds of UDP being closed, and an exchange with a member that answers after all
// costs only two messages.
const answerWithin = 1500 * time.Millisecond

// lacks says whether an answer by UDP is overdue. Called with the lock held.
func (p *peer) lacks(now time.Time) bool {
	return p.state == Alive && !p.unanswered.IsZero() && now.Sub(p.unanswered) >= answerWithin
}

// unanswered lists the members whose answer by UDP is overdue.
func (t *table) unanswered(now time.Time) (names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.all {
		if p.lacks(now) {
			names = append(names, p.name)
		}
	}
	return names
}

// probed records that the member owes an answer by UDP.
func (t *table) probed(name string) {
	now := time.Now()
	t.with(name, func(p *peer) {
		if p.unanswered.IsZero() {
			p.unanswered = now
		}
	})
}

// agree records that the roots are the same. Called with the lock held.
func (p *peer) agree(now time.Time) {
	p.sync, p.compared, p.agreed, p.differing, p.fruitless, p.nextSync = Agrees, now, now, 0, 0, time.Time{}
	p.stuck, p.stalls = nil, 0
}

// behind returns those of the members whose root is not known to have been the same since then.
func (t *table) behind(members []target, since time.Time) (out []target) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, to := range members {
		if p := t.all[to.name]; p == nil || !p.agreed.After(since) {
			out = append(out, to)
		}
	}
	return out
}

// agreement counts the alive others by what is known of their roots.
func (t *table) agreement() (equal, differ, unknown int) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.all {
		if p.state != Alive {
			continue
		}
		switch t.agrees(p, now) {
		case Agrees:
			equal++
		case Differs:
			differ++
		default:
			unknown++
		}
	}
	return equal, differ, unknown
}

// askAgain is how many probe intervals after its last comparison a member that agreed is asked again, askAgainEach how many
// intervals lie between two such questions. memberlist probes the members in a new random order each round, so that one's turn may
// be nearly two rounds away, and for that long it would be called in sync although it no longer is. Members behind a cut are soon
// the ones compared longest ago. To ask all that often would double what an idle mesh sends.
const (
	askAgain     = 6
	askAgainEach = 5
)

// toAsk picks alive members whose root is unknown or differs and was not requested in the last five seconds, members that
// have left a probe unanswered, and first of all, now and then, the one that was compared longest ago.
func (t *table) toAsk(max int, now time.Time) []target {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []target
	due := func(p *peer) bool {
		return p.sync != Agrees && now.Sub(p.asked) >= 5*time.Second ||
			!p.unanswered.IsZero() && now.Sub(p.unanswered) >= t.every && now.Sub(p.asked) >= t.every
	}
	// A question is one packet, but each answer may start an exchange; hence few at a time.
	pick := func(max int, proven bool) {
		for _, p := range t.all { // in random order
			if len(out) == max {
				return
			}
			if p.state == Alive && p.hasSkew == proven && due(p) {
				p.asked = now
				out = append(out, target{p.name, p.addr})
			}
		}
	}
	// However many do not answer: half a mesh behind a cut would take every turn.
	if now.Sub(t.askedAgain) >= askAgainEach*t.every {
		if p := t.longSince(now); p != nil {
			t.askedAgain, p.asked = now, now
			out = append(out, target{p.name, p.addr})
		}
	}
	pick(max-1, true) // invented members must not take the others' turns
	pick(max, false)
	pick(max, true)
	return out
}

// longSince is the member that agreed, owes no answer and was compared longest ago, nil if that is recent of all. Called with the
// lock held.
func (t *table) longSince(now time.Time) (oldest *peer) {
	recent := now.Add(-askAgain * t.every)
	for _, p := range t.all {
		if p.state == Alive && p.sync == Agrees && p.unanswered.IsZero() && !p.compared.After(recent) && !p.asked.After(recent) &&
			(oldest == nil || p.compared.Before(oldest.compared) || p.compared.Equal(oldest.compared) && p.name < oldest.name) {
			oldest = p
		}
	}
	return oldest
}
