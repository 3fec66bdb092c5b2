package commit

import "time"

// batch decides when gathered changes are committed: every change waits a moment for company, and additions and expiries also
// for their turn.
type batch struct {
	window, maxWait, expiryWait, interval time.Duration
	burst                                 int

	pending pending
	// paid is when all commits so far would have been made at one for each interval; up to burst commits may be ahead of that.
	paid time.Time
}

// pending records since when changes of each urgency wait, and when the last one came.
type pending struct {
	first, last [urgencies]time.Time // zero: none
}

func (p pending) empty() bool { return p == pending{} }

// note adds a change.
func (b *batch) note(now time.Time, u Urgency) {
	if u >= urgencies {
		u = Addition
	}
	if b.pending.first[u].IsZero() {
		b.pending.first[u] = now
	}
	b.pending.last[u] = now
}

// hurry adds a change that has already waited long enough elsewhere.
func (b *batch) hurry(now time.Time) {
	at := now.Add(-b.maxWait)
	if f := b.pending.first[Addition]; f.IsZero() || f.After(at) {
		b.pending.first[Addition] = at
	}
	if b.pending.last[Addition].IsZero() {
		b.pending.last[Addition] = at
	}
}

// due is when the next commit may start, zero if nothing waits.
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

// take hands everything that waits to a commit; later changes belong to the next one.
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

// earliest is the earlier of two times; zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
