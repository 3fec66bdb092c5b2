package commit

import "time"

// batch decides when gathered changes are committed: a change waits a moment for
// company, additions and expiries also for their turn.
type batch struct {
	window, maxWait, expiryWait, interval time.Duration
	burst                                 int

	pending pending
	// paid is when all commits so far would have been made at one an interval:
	// as many as burst may be ahead of that.
	paid time.Time
}

// pending is since when changes of each urgency wait, and when the last came.
type pending struct {
	first, last [urgencies]time.Time // zero: none
}

func (p pending) empty() bool { return p == pending{} }

// note takes in a change.
func (b *batch) note(now time.Time, u Urgency) {
	if u >= urgencies {
		u = Addition
	}
	if b.pending.first[u].IsZero() {
		b.pending.first[u] = now
	}
	b.pending.last[u] = now
}

// hurry takes in a change that has waited long enough elsewhere.
func (b *batch) hurry(now time.Time) {
	at := now.Add(-b.maxWait)
	if f := b.pending.first[Addition]; f.IsZero() || f.After(at) {
		b.pending.first[Addition] = at
	}
	if b.pending.last[Addition].IsZero() {
		b.pending.last[Addition] = at
	}
}

// due is when the next commit may start, zero when nothing waits.
func (b *batch) due() time.Time {
	turn := b.paid.Add(-time.Duration(b.burst-1) * b.interval)
	var at time.Time
	for u := range urgencies {
		first, last := b.pending.first[u], b.pending.last[u]
		if first.IsZero() {
			continue
		}
		t := earliest(last.Add(b.window), first.Add(b.maxWait))
		if u == Expiry {
			t = first.Add(b.expiryWait)
		}
		if u != Removal && t.Before(turn) {
			t = turn
		}
		at = earliest(at, t)
	}
	return at
}

// take gives all that waits to a commit; what comes from now on is the next one's.
func (b *batch) take() pending {
	p := b.pending
	b.pending = pending{}
	return p
}

// restore puts back what a failed commit took.
func (b *batch) restore(p pending) {
	for u := range urgencies {
		b.pending.first[u] = earliest(b.pending.first[u], p.first[u])
		if b.pending.last[u].IsZero() {
			b.pending.last[u] = p.last[u]
		}
	}
}

// committed counts a commit.
func (b *batch) committed(now time.Time) {
	if b.paid.Before(now) {
		b.paid = now
	}
	b.paid = earliest(b.paid.Add(b.interval), now.Add(time.Duration(b.burst)*b.interval))
}

// earliest is the earlier of two times, where zero stands for never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
