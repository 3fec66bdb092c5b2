package commit

import (
	"time"

	"banmesh/mesh/conductor/prefixset"
)

// A cut hides what a leader beyond it removes: here it looks removed by hand. The records alone do not always tell afterwards,
// because the one that this member wrote during the cut is not the one that the other lifted. So nothing counts as removed by
// hand that a member may have removed which was away between the last reading that had it and the first that lacked it, and has
// shared its records since.

// met is when a member that may lead last came back, zero for never. It may have led beyond a cut, so a reading from before that
// does not tell what is in the tenant now.
func (c *Committer) met() time.Time {
	var at time.Time
	if c.cfg.Peers == nil {
		return at
	}
	for _, p := range c.cfg.Peers() {
		if p.Alive && p.MayLead {
			at = later(at, p.Since)
		}
	}
	return at
}

// noticing is how long it may take until a cut shows as a member that is away.
const noticing = time.Minute

// resolveDoubts ends the waits for what a member that was away may have removed. It reports whether others remain in doubt:
// those of prefixes that went missing while nobody was away no longer are, so a later restart of a member does not end them.
func (c *Committer) resolveDoubts(now time.Time) bool {
	c.tenant.Lock()
	doubts := c.memory.inDoubt()
	c.tenant.Unlock()
	if len(doubts) == 0 || c.cfg.Peers == nil {
		return false
	}
	var shared, silent time.Time // when the last member came back that has shared its records since, and that has not
	away := false
	for _, p := range c.cfg.Peers() {
		switch {
		case !p.MayLead:
		case !p.Alive:
			away = true
		case p.Agreed.After(p.Since):
			shared = later(shared, p.Since)
		default:
			silent = later(silent, p.Since)
		}
	}
	c.tenant.Lock()
	var ended, remain int
	for _, p := range doubts {
		switch h := c.memory.byHand[p]; {
		case h.last.Before(shared):
			delete(c.memory.byHand, p)
			delete(c.memory.seen, p)
			doubts[ended] = p
			ended++
		case away || h.last.Before(silent) || now.Sub(h.found) < noticing:
			remain++
		default:
			h.last = time.Time{}
			c.memory.byHand[p] = h
		}
	}
	c.tenant.Unlock()
	if ended > 0 {
		c.log.Info("not removed by hand, but perhaps by a member that was away", "prefixes", ended, "some", prefixset.Some(doubts[:ended]))
		c.mu.Lock()
		c.batch.hurry(now)
		c.mu.Unlock()
	}
	return remain > 0
}
