package commit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/prefixset"
	"banmesh/store"
)

// read reads running without a lock and records what it shows. No plan is made from a tenant that is wide open, but the
// conductor has answered, and status shows what it said.
func (c *Committer) read(ctx context.Context) (conductor.Running, error) {
	ctx, done := context.WithTimeout(ctx, c.cfg.Timeout)
	defer done()
	r, err := c.cfg.Conductor.Read(ctx)
	// One wrong answer must not look like a tenant that somebody emptied, so it is asked again.
	if err == nil && c.misses(r) {
		r, err = c.cfg.Conductor.Read(ctx)
	}
	wideOpen := errors.Is(err, conductor.ErrWideOpen)
	if err != nil && !wideOpen {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) && !errors.Is(err, conductor.ErrUnreachable) {
			err = fmt.Errorf("%w within %s: %w", conductor.ErrUnreachable, c.cfg.Timeout, err)
		}
		return conductor.Running{}, err
	}
	c.mu.Lock()
	c.ability.succeeded(time.Now(), c.leading)
	c.mu.Unlock()
	c.learn(r)
	if wideOpen {
		c.forgetReading()
	}
	return r, err
}

// misses reports whether a reading lacks what this member has seen in running.
func (c *Committer) misses(r conductor.Running) bool {
	placed := c.placed()
	c.tenant.Lock()
	defer c.tenant.Unlock()
	return c.memory.misses(r, placed)
}

// learn records a reading of running.
func (c *Committer) learn(r conductor.Running) {
	d := draft{facts: c.gather(r.Addresses, false)}
	d.index()
	now := time.Now()
	old := func(until store.Millis) bool {
		return until.Time().Add(2*c.cfg.Timeout - c.cfg.tuning.Lease).Before(d.facts.date)
	}
	c.mu.Lock()
	c.estimate.stale = true
	lead := c.leading
	c.mu.Unlock()
	c.tenant.Lock()
	n := c.memory.look(now, r, d.facts.placed, d.covered, old, c.cfg.tuning.ByHandWait, c.cfg.MaxShrinkPercent)
	c.tenant.Unlock()
	// Every member notes what it reads; the leader alone tells, or each event would come from all of them.
	if !lead {
		return
	}
	if len(n.reset) > 0 {
		c.log.Warn("the tenant was reset: what is gone from it is put back with the next commit", "prefixes", len(n.reset), "some", prefixset.Some(n.reset))
		c.cfg.OnEvent(Event{Time: c.cfg.Now(), Kind: EventReset, Remove: n.reset, Detail: fmt.Sprintf("the tenant was reset: %d prefixes are gone from it, and are put back with the next commit", len(n.reset))})
	}
	if len(n.byHand) > 0 {
		c.log.Warn("removed from the tenant by hand; not put back at once", "prefixes", len(n.byHand), "some", prefixset.Some(n.byHand))
		c.cfg.OnEvent(Event{Time: c.cfg.Now(), Kind: EventByHand, Remove: n.byHand, Detail: fmt.Sprintf("removed from the tenant by hand; put back no sooner than in %s", c.cfg.tuning.ByHandWait)})
	}
	if len(n.foreign) > 0 {
		c.log.Info("addresses in the tenant that nobody here placed", "prefixes", len(n.foreign))
		c.cfg.OnEvent(Event{Time: c.cfg.Now(), Kind: EventForeign, Add: n.foreign, Detail: "in the tenant, placed by nobody here"})
	}
}

// probe finds out whether this member reaches the conductor.
func (c *Committer) probe(ctx context.Context) error {
	c.mu.Lock()
	was, told := c.ability.able, c.leading && c.show.state == ""
	c.mu.Unlock()
	if told { // what comes meanwhile has to wait: the others must see why
		c.cfg.SetWork(WorkCommitting, "", conductor.SessionAt{}, time.Now().Add(c.cfg.Timeout))
	}
	_, err := c.read(ctx)
	// The agent stops: what broke off says nothing about the conductor.
	if ctx.Err() != nil {
		return err
	}
	now := time.Now()
	switch {
	case err == nil:
		c.mu.Lock()
		// Only the leader's next attempt can clear an error of its last one. A member that does not lead makes no attempts.
		if !c.leading || !c.show.edit || errors.Is(c.show.cause, conductor.ErrWideOpen) {
			c.show.clear()
		}
		able := c.ability.able
		c.mu.Unlock()
		if !was && able {
			c.log.Info("the conductor can be reached", "features", c.cfg.Conductor.Features())
		}
		if told || !was && able {
			c.cfg.SetWork(WorkIdle, "", conductor.SessionAt{}, time.Time{})
		}
	case errors.Is(err, conductor.ErrWideOpen):
		c.failed(now, err, pending{}, true)
	default:
		c.mu.Lock()
		c.ability.failed(now, err, true)
		c.estimate.stale = true
		lead := c.leading
		c.mu.Unlock()
		if lead || was {
			c.failed(now, err, pending{}, true)
		} else {
			c.log.Debug("the conductor cannot be used", "err", err)
		}
	}
	return err
}

// maxAsked is the longest pause that a conductor's answer can ask for; a longer one is cut to it.
const maxAsked = 15 * time.Minute

// failed records that an attempt or a reading failed; took goes back to the changes that wait.
func (c *Committer) failed(now time.Time, err error, took pending, reading bool) {
	unable := errors.Is(err, conductor.ErrUnreachable) || errors.Is(err, conductor.ErrLogin) || errors.Is(err, conductor.ErrHostKey) || errors.Is(err, errRecord)
	state, work, detail := StateFailing, WorkIdle, err.Error()
	var busy *conductor.BusyError
	switch {
	case errors.As(err, &busy):
		state, work, detail = StateWaiting, WorkWaiting, busy.Error()
	case errors.Is(err, conductor.ErrBusy):
		state, work = StateWaiting, WorkWaiting
	case unable:
		work = WorkUnable
	}
	c.mu.Lock()
	c.batch.restore(took)
	if c.ability.able && unable {
		c.ability.failed(now, err, false)
	}
	if !reading {
		c.editFail = true
		c.retry.failed(now)
		if unable {
			c.ability.editFailed(c.retry.at)
		}
	}
	// The conductor has said when to come again, and may ask for no more than maxAsked.
	if busy != nil {
		c.retry.atLeast(now.Add(min(busy.After, maxAsked)))
	}
	// The same failure is told once, and then goes to the log at level debug: a conductor can be away for days.
	again := c.show.state == state && c.show.lastError == err.Error()
	c.show.state, c.show.detail, c.show.lastError, c.show.cause, c.show.edit = state, detail, err.Error(), err, !reading
	next := c.retry.at
	if unable {
		next = c.ability.next
	}
	c.mu.Unlock()
	c.cfg.SetWork(work, detail, conductor.SessionAt{}, time.Time{})
	if again {
		c.log.Debug("commit failed again", "err", err, "next", next)
		return
	}
	kind := EventError
	if errors.Is(err, conductor.ErrWideOpen) {
		kind = EventWideOpen
	}
	c.log.Warn("commit failed", "err", err, "next", next)
	c.cfg.OnEvent(Event{Time: c.cfg.Now(), Kind: kind, Detail: err.Error()})
}

// review finds out whether time alone, or somebody at the conductor, has given the leader something to do.
func (c *Committer) review() {
	c.tenant.Lock()
	valid, running := c.memory.valid, c.memory.running
	c.tenant.Unlock()
	if !valid {
		return
	}
	p := c.plan(c.gather(running, false))
	c.publish(p)
	unused := len(c.longUnused()) > 0
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	// Something waits already, and its commit makes a plan of everything.
	if !c.batch.pending.empty() {
		return
	}
	if unused {
		c.batch.note(now, Expiry)
	}
	if len(p.Add) > 0 {
		c.batch.note(now, Addition)
	}
	for _, x := range p.Remove {
		switch p.reason(x) {
		case reasonLifted, reasonAllowed:
			c.batch.note(now, Removal)
		default:
			c.batch.note(now, Expiry)
		}
	}
}

// housekeep renews leases and handles what is due by time only.
func (c *Committer) housekeep(ctx context.Context, lead bool) {
	below := c.cfg.tuning.RenewBelow
	if !lead {
		// While no member reaches the conductor, nobody leads, and the leases must not run out. Each member waits a different
		// time, to see whether another one does it.
		if !c.cfg.Ready() {
			return
		}
		below = c.cfg.tuning.RescueBelow - c.rescue
	}
	c.renew(ctx, below, lead)
	c.decideForeign()
	if lead {
		c.review()
	}
}
