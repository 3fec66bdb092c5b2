package gossip

import (
	"errors"
	"time"
)

// Bans travel by UDP, and so does what tells whether members agree. As long as
// nothing is lost no stream is needed, and a firewall that drops TCP would go
// unnoticed until the first loss, a restart or a long list. So each member is
// asked something by a stream now and then.
const (
	lookEvery  = 5 * time.Second  // between two looks of this member
	lookAgain  = 30 * time.Second // between two at the same one
	lookFailed = 10 * time.Second // the same where the last one failed
	looksLost  = 2                // failed ones in a row until it is said: a member may have ended a moment ago
	lookMargin = 2 * time.Second  // what the answer may take beyond the opening of the stream
)

// look asks the member whose turn it is. One look is under way at a time.
func (m *Mesh) look(now time.Time) {
	if now.Sub(m.looked) < lookEvery || m.looking.Load() {
		return
	}
	to, ok := m.table.toLook(now)
	if !ok {
		return
	}
	m.looked = now
	m.looking.Store(true)
	if !m.timers.after(0, func() {
		defer m.looking.Store(false)
		_, err := m.who(m.ctx, to.addr, to.name, m.tune.DialTimeout+lookMargin)
		if m.ctx.Err() == nil && !errors.Is(err, errClosed) && !errors.Is(err, errStrange) {
			m.table.with(to.name, func(p *peer) { p.streamed(err) })
		}
	}) {
		m.looking.Store(false)
	}
}

// toLook is the member whose turn it is: the one that was looked at longest ago. In a
// large mesh a round takes many minutes, so that every other turn is one of those that
// did not answer: they would be called unreachable as late, and for as long after.
func (t *table) toLook(now time.Time) (to target, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var next, doubted *peer
	for _, p := range t.all {
		again := lookAgain
		if p.noStream != nil {
			again = lookFailed
		}
		if p.state == Left || now.Sub(p.looked) < again {
			continue
		}
		if next == nil || p.looksBefore(next) {
			next = p
		}
		// One that is known to be down need not be asked as often as that.
		if p.noStream != nil && (p.state == Alive || p.lost < looksLost) && (doubted == nil || p.looksBefore(doubted)) {
			doubted = p
		}
	}
	if next == nil {
		return target{}, false
	}
	if t.doubtedNow = doubted != nil && !t.doubtedNow; t.doubtedNow {
		next = doubted
	}
	next.looked = now
	return target{next.name, next.addr}, true
}

// looksBefore orders members by when they were looked at. Called with the lock held.
func (p *peer) looksBefore(o *peer) bool {
	return p.looked.Before(o.looked) || p.looked.Equal(o.looked) && p.name < o.name
}

// streamed notes whether a stream to the member could be opened. Called with the
// lock held.
func (p *peer) streamed(err error) {
	if p.noStream = err; err == nil {
		p.lost, p.met = 0, true
		return
	}
	p.lost++
}

// streamTrouble says why the member does not answer by a stream, nil where it does
// or is not known not to. Called with the lock held.
func (p *peer) streamTrouble() error {
	if p.state == Left || p.lost < looksLost {
		return nil
	}
	return plainly(p.noStream)
}
