package commit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"banmesh/mesh/conductor"
)

const (
	// How long giving back the lock may take. The server drops it with the session in any case (RFC 6241
	// section 7.5); when the agent stops there is no time to wait for that.
	closeTimeout = 10 * time.Second
	stopTimeout  = time.Second
)

// work makes one commit, if there is anything to commit. Only Run calls it, so that there is never more than one at a time.
func (c *Committer) work(ctx context.Context, force bool) (Result, error) {
	c.mu.Lock()
	took := c.batch.take()
	c.mu.Unlock()
	res, err := c.try(ctx, force)
	now := time.Now()
	switch {
	case err == nil:
		c.mu.Lock()
		c.retry.reset()
		c.editFail, c.ability.edits = false, time.Time{}
		c.show.clear()
		if res.Took > 0 {
			// Only a commit that was made counts towards the least time between two.
			c.batch.committed(now)
			c.show.commits++
			c.show.lastCommit = c.cfg.Now()
		}
		c.mu.Unlock()
		c.cfg.SetWork(WorkIdle, "", conductor.SessionAt{}, time.Time{})
		c.reportHeld(res.Plan)
	case errors.Is(err, errLost), ctx.Err() != nil:
		c.cfg.SetWork(WorkIdle, "", conductor.SessionAt{}, time.Time{})
	default:
		c.failed(now, err, took, false)
		c.mu.Lock()
		c.batch.hurry(now) // after the back-off it is due again, on request or not
		c.mu.Unlock()
	}
	return res, err
}

// try makes a plan from what is known of running and, if the plan is not empty, an edit.
func (c *Committer) try(ctx context.Context, force bool) (Result, error) {
	placed, met := c.placed(), c.met()
	c.tenant.Lock()
	tells := c.memory.tells(placed) && !c.memory.at.Before(met)
	running := c.memory.running
	c.tenant.Unlock()
	if !tells {
		// The others must see why it does not begin: a conductor may take long to answer.
		c.committing(conductor.SessionAt{}, time.Now().Add(c.cfg.Timeout))
		r, err := c.read(ctx)
		if err != nil {
			return Result{}, err
		}
		running = r.Addresses
	}
	c.mu.Lock()
	changes := c.changes
	c.mu.Unlock()
	p := c.plan(c.gather(running, force))
	c.publish(p)
	if p.Empty() && len(c.longUnused()) == 0 {
		return Result{Plan: p}, nil
	}
	return c.edit(ctx, force, p, changes)
}

// replan makes the plan anew if running is not what it was made for, or if the set has changed while the edit began.
func (c *Committer) replan(running conductor.Running, force bool, p Plan, changes uint64) Plan {
	c.mu.Lock()
	same := changes == c.changes
	c.mu.Unlock()
	c.tenant.Lock()
	same = same && c.memory.shows(running.Addresses)
	c.tenant.Unlock()
	if same {
		return p
	}
	c.learn(running)
	p = c.plan(c.gather(running.Addresses, force))
	c.publish(p)
	return p
}

// edit is the read-modify-write under the candidate's lock.
func (c *Committer) edit(ctx context.Context, force bool, p Plan, changes uint64) (res Result, err error) {
	start := time.Now()
	step, done := c.abandonable(ctx)
	defer done()
	e, fresh, first, err := c.begin(ctx, step, p)
	if err != nil {
		return Result{}, err
	}
	c.announce(e, start.Add(2*c.cfg.Timeout))
	var end editEnd
	defer func() {
		res, err = c.finish(ctx, e, end, res, err)
		if err == nil && !res.Plan.Empty() {
			res.Took = max(time.Since(start), 1)
			c.reportCommit(res)
		}
	}()

	running := e.Running()
	p = c.placedOnly(c.replan(running, force, p, changes))
	res.Plan = p
	end.clean = true
	end.unused = notAdded(running, p.Add, fresh, first)
	if p.Empty() {
		return res, nil
	}
	// Between the lock and the first edit nothing has been changed that would have to be undone.
	if c.mayCommit() != nil {
		return res, errLost
	}
	if err := e.Apply(step, p.Add, p.Remove); err != nil {
		return res, c.lostOr(step, fmt.Errorf("edit the tenant: %w", err))
	}
	// The last moment to give up: Close undoes the edits under the lock.
	if step.Err() != nil || c.mayCommit() != nil {
		return res, c.lostOr(step, errLost)
	}
	// From here on the commit may take effect whatever happens: it is completed even if leadership is lost meanwhile.
	placed := c.placed()
	c.tenant.Lock()
	c.memory.sent(p.Add, placed)
	c.tenant.Unlock()
	final, done := c.lasting(ctx)
	defer done()
	if err := e.Commit(final); err != nil {
		// Whatever the answer says, only reading running shows what it holds now.
		end.unknown = true
		return res, fmt.Errorf("commit the tenant: %w", err)
	}
	end.committed = true
	return res, nil
}

// begin records what the plan adds and takes the lock. fresh and first are what place returns: what nobody, and what this member
// itself, had placed before.
func (c *Committer) begin(ctx, step context.Context, p Plan) (e conductor.Edit, fresh, first []netip.Prefix, err error) {
	if c.mayCommit() != nil {
		return nil, nil, nil, errLost
	}
	// Record before taking the lock: a hanging disk must not keep the lock from everybody else.
	if !p.Empty() {
		if fresh, first, err = c.place(step, p.Add); err != nil {
			return nil, nil, nil, c.lostOr(step, err)
		}
	}
	e, err = c.cfg.Conductor.Begin(step, conductor.Permit{Ours: c.ours(fresh), Kill: c.cfg.StaleSessions()})
	if err != nil {
		c.withdraw(ctx, fresh)
		return nil, nil, nil, c.lostOr(step, err)
	}
	return e, fresh, first, nil
}

// announce tells the members which session holds the lock and until when at most: if this member freezes meanwhile, the next
// leader may end that session and no other.
func (c *Committer) announce(e conductor.Edit, until time.Time) {
	c.mu.Lock()
	c.ability.succeeded(time.Now(), true)
	c.mu.Unlock()
	session := conductor.SessionAt{Node: e.Running().Conductor, ID: e.Session()}
	if session.ID == 0 {
		session = conductor.SessionAt{}
	}
	c.committing(session, until)
}

// committing shows that this member is at work, here and to the others, by which session and until when at most.
func (c *Committer) committing(session conductor.SessionAt, until time.Time) {
	c.mu.Lock()
	c.show.state, c.show.detail = StateCommitting, ""
	c.mu.Unlock()
	c.cfg.SetWork(WorkCommitting, "", session, until)
}

// editEnd is how far an edit came.
type editEnd struct {
	clean     bool           // the lock was had and running read, so what is placed and unused is known
	committed bool           // the conductor confirmed the commit
	unknown   bool           // the commit was sent and not confirmed: only running tells
	unused    []netip.Prefix // placed for this edit, which then did not add it
}

// finish gives the lock back and only then records what the edit did, so that nobody waits for this member's disk under the
// lock.
func (c *Committer) finish(ctx context.Context, e conductor.Edit, end editEnd, res Result, err error) (Result, error) {
	c.shut(ctx, e)
	if len(end.unused) > 0 {
		c.withdraw(ctx, end.unused)
	}
	if end.committed {
		c.done(ctx, res.Plan)
	}
	if end.unknown {
		res, err = c.verdict(ctx, res, err)
	}
	if end.clean {
		c.unplaceUnused(ctx, res.Plan)
	}
	return res, err
}

// shut ends the edit, and with it the lock.
func (c *Committer) shut(ctx context.Context, e conductor.Edit) {
	within := closeTimeout
	if ctx.Err() != nil { // the agent is stopping
		within = stopTimeout
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer done()
	if err := e.Close(ctx); err != nil {
		c.log.Warn("edit not closed properly", "session", e.Session(), "err", err)
	}
}

// verdict reads running in a new session to find out what an edit without a clear answer did.
func (c *Committer) verdict(ctx context.Context, res Result, cause error) (Result, error) {
	c.forgetReading()
	within, done := c.lasting(ctx)
	defer done()
	// In a new session: the old one may be the reason for the silence.
	r, err := c.read(within)
	if err != nil {
		return res, fmt.Errorf("%w; read running to learn the outcome: %w", cause, err)
	}
	present := make(map[netip.Prefix]struct{}, len(r.Addresses))
	for _, p := range r.Addresses {
		present[p] = struct{}{}
	}
	missing, left := 0, 0
	for _, p := range res.Plan.Add {
		if _, ok := present[p]; !ok {
			missing++
		}
	}
	var gone []netip.Prefix
	for _, p := range res.Plan.Remove {
		if _, ok := present[p]; ok {
			left++
		} else {
			gone = append(gone, p)
		}
	}
	c.unplace(ctx, gone)
	c.replace(ctx, res.Plan.Add, present)
	// The commit has succeeded, whatever its answer was.
	if missing == 0 && left == 0 {
		c.log.Info("the commit took effect although its answer did not say so", "err", cause)
		return res, nil
	}
	return res, fmt.Errorf("%w; running lacks %d of %d additions and still holds %d of %d removals",
		cause, missing, len(res.Plan.Add), left, len(res.Plan.Remove))
}

// done records that a plan is in running.
func (c *Committer) done(ctx context.Context, p Plan) {
	c.unplace(ctx, p.Remove)
	c.replace(ctx, p.Add, nil)
	placed := c.placed()
	c.tenant.Lock()
	c.memory.committed(time.Now(), p, placed)
	c.tenant.Unlock()
	c.mu.Lock()
	c.estimate.at, c.estimate.stale = time.Time{}, true
	c.mu.Unlock()
}

// ours tells banmesh's leftovers in a candidate from another administrator's work: each addition was placed, each removal was
// placed and is due. What this member has seen in running is not a leftover if it exceeds the shrink guard's share: then the
// reading that lacks it is wrong, and undoing it would lift those bans with the next commit of any session. Neither is a prefix
// that was placed a moment ago for the edit that is just beginning.
func (c *Committer) ours(fresh []netip.Prefix) func(added, removed []netip.Prefix) bool {
	news := setOfPrefixes(fresh)
	return func(added, removed []netip.Prefix) bool {
		if len(added)+len(removed) == 0 {
			return false
		}
		c.tenant.Lock()
		running := slices.Clone(c.memory.running)
		contradicted := c.memory.contradicts(added, c.cfg.MaxShrinkPercent)
		c.tenant.Unlock()
		if contradicted {
			return false
		}
		running = append(running, removed...)
		slices.SortFunc(running, comparePrefixes)
		f := c.gather(slices.Compact(running), true)
		f.clocksAgree = true // the leader that left it behind was entitled to remove it
		p := c.plan(f)
		for _, x := range added {
			if _, ok := f.placed[x]; !ok || news.ContainsPrefix(x) {
				return false
			}
		}
		due := setOfPrefixes(added)
		for _, x := range removed {
			if _, ok := f.placed[x]; !ok {
				return false
			}
			if _, ok := slices.BinarySearchFunc(p.Remove, x, comparePrefixes); !ok && !due.ContainsPrefix(x) {
				return false
			}
		}
		return true
	}
}

// abandonable is the context of everything before the commit, which may be given up. It ends after the timeout and when
// leadership is lost.
func (c *Committer) abandonable(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	c.mu.Lock()
	c.cancel = cancel
	c.mu.Unlock()
	return ctx, func() {
		c.mu.Lock()
		c.cancel = nil
		c.mu.Unlock()
		cancel()
	}
}

// lasting is the context of steps that should complete: it outlives ctx by a short grace period.
func (c *Committer) lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	long, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.Timeout)
	end := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(c.cfg.tuning.StopGrace, cancel)
		context.AfterFunc(long, func() { t.Stop() })
	})
	return long, func() { end(); cancel() }
}

// lostOr returns the loss of leadership if that is why a step ended.
func (c *Committer) lostOr(step context.Context, err error) error {
	switch {
	case errors.Is(err, errLost), !c.cfg.Leading():
		return errLost
	case errors.Is(step.Err(), context.DeadlineExceeded) && !errors.Is(err, conductor.ErrUnreachable):
		return fmt.Errorf("%w within %s: %w", conductor.ErrUnreachable, c.cfg.Timeout, err)
	}
	return err
}
