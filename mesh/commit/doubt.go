package commit

import (
	"time"

	"banmesh/mesh/conductor/prefixset"
)

// A cut hides what a leader beyond it removes: here it looks removed by hand. The records alone do not always tell afterwards,
// because the one that this member wrote during the cut is not the one that the other lifted. So nothing counts as removed by
// hand that a member may have removed which was away after the last reading that had it, and has shared its records since.

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

// resolveDoubts ends the waits for what a member that was away may have removed. It reports whether others remain.
func (c *Committer) resolveDoubts(now time.Time) bool {
	c.tenant.Lock()
	doubts := c.memory.foundByHand()
	c.tenant.Unlock()
	if len(doubts) == 0 || c.cfg.Peers == nil {
		return false
	}
	var back time.Time
	for _, p := range c.cfg.Peers() {
		if p.Alive && p.MayLead && p.Agreed.After(p.Since) {
			back = later(back, p.Since)
		}
	}
	c.tenant.Lock()
	var ended int
	for _, p := range doubts {
		if h := c.memory.byHand[p]; h.last.Before(back) {
			delete(c.memory.byHand, p)
			delete(c.memory.seen, p)
			doubts[ended] = p
			ended++
		}
	}
	c.tenant.Unlock()
	if ended > 0 {
		c.log.Info("not removed by hand, but perhaps by a member that was away", "prefixes", ended, "some", prefixset.Some(doubts[:ended]))
		c.mu.Lock()
		c.batch.hurry(now)
		c.mu.Unlock()
	}
	return ended < len(doubts)
}
