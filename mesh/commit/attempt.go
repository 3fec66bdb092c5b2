package commit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"banmesh/mesh/conductor"
	"banmesh/store"
)

// errRecord: what is placed cannot be written down, so nothing may be placed.
var errRecord = errors.New("the store cannot record what is placed")

const (
	closeTimeout  = 10 * time.Second
	stopTimeout   = time.Second
	recordTimeout = 5 * time.Second
	spreadTimeout = time.Second
)

// work makes one commit, if there is anything to commit. Run alone calls it, so
// that there is never more than one at a time.
func (c *Committer) work(ctx context.Context, force bool) (result, error) {
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
		c.batch.hurry(now) // once the back-off has passed it is due again, whoever asked for it
		c.mu.Unlock()
	}
	return res, err
}

// try makes a plan from what is known of running and, where that says that there
// is something to do, an edit.
func (c *Committer) try(ctx context.Context, force bool) (result, error) {
	placed := c.placed()
	c.tenant.Lock()
	tells := c.memory.tells(placed)
	running := c.memory.running
	c.tenant.Unlock()
	if !tells {
		r, err := c.read(ctx)
		if err != nil {
			return result{}, err
		}
		running = r.Addresses
	}
	c.mu.Lock()
	changes := c.changes
	c.mu.Unlock()
	p := c.plan(c.gather(running, force))
	c.publish(p)
	if p.Empty() && len(c.ripe()) == 0 {
		return result{Plan: p}, nil
	}
	return c.edit(ctx, force, p, changes)
}

// replan makes the plan anew where running is not what it was made for, or the set
// has changed while the edit was being begun.
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
func (c *Committer) edit(ctx context.Context, force bool, p Plan, changes uint64) (res result, err error) {
	start := time.Now()
	step, done := c.abandonable(ctx)
	defer done()
	if c.mayCommit() != nil {
		return result{}, errLost
	}
	// Before the lock: a disk that hangs must not keep it from everybody else.
	var fresh, first []netip.Prefix
	if !p.Empty() {
		if fresh, first, err = c.place(step, p.Add); err != nil {
			return result{}, c.lostOr(step, err)
		}
	}
	e, err := c.cfg.Conductor.Begin(step, conductor.Permit{Ours: c.ours(fresh), Kill: c.cfg.StaleSessions()})
	if err != nil {
		c.withdraw(ctx, fresh)
		return result{}, c.lostOr(step, err)
	}
	c.mu.Lock()
	c.ability.succeeded(time.Now(), true)
	c.show.state, c.show.detail = StateCommitting, ""
	c.mu.Unlock()
	session := conductor.SessionAt{Node: e.Running().Conductor, ID: e.Session()}
	if session.ID == 0 {
		session = conductor.SessionAt{}
	}
	until := start.Add(2 * c.cfg.Timeout)
	c.cfg.SetWork(WorkCommitting, "", session, until)
	unknown, committed, clean := false, false, false
	var vain []netip.Prefix // placed for this edit, which does not add it
	defer func() {
		c.shut(ctx, e)
		// What is written down now was not waited for under the lock.
		if len(vain) > 0 {
			c.withdraw(ctx, vain)
		}
		if committed {
			c.done(ctx, p)
		}
		if unknown {
			res, err = c.verdict(ctx, res, err)
		}
		if clean {
			c.clearVain(ctx, p)
		}
		if err == nil && !res.Plan.Empty() {
			res.Took = max(time.Since(start), 1)
			c.reportCommit(res)
		}
	}()

	running := e.Running()
	p = c.placedOnly(c.replan(running, force, p, changes))
	res.Plan = p
	clean = true
	vain = notAdded(running, p.Add, fresh, first)
	if p.Empty() {
		return res, nil
	}
	if c.mayCommit() != nil {
		return res, errLost
	}
	if err := e.Apply(step, p.Add, p.Remove); err != nil {
		return res, c.lostOr(step, fmt.Errorf("edit the tenant: %w", err))
	}
	if step.Err() != nil || c.mayCommit() != nil {
		return res, c.lostOr(step, errLost)
	}
	// From here on the commit may take effect whatever happens: it is brought to
	// its end even when leadership is lost meanwhile.
	final, done := c.lasting(ctx)
	defer done()
	if err := e.Commit(final); err != nil {
		// Whatever the answer says: what running holds now is learnt by reading it.
		unknown = true
		return res, fmt.Errorf("commit the tenant: %w", err)
	}
	committed = true
	return res, nil
}

// notAdded are the prefixes that were placed for an edit which then did not add them, because running was another one than
// the last reading: what is there already is somebody else's where nobody had placed it, and what is not there needs no
// record of this member's where it had none. Without that an address of others would be adopted, and one that another leader
// removed would pass for one that was removed by hand.
func notAdded(running conductor.Running, add, fresh, first []netip.Prefix) (vain []netip.Prefix) {
	if len(first) == 0 {
		return nil
	}
	there, added, news := setOfPrefixes(running.Addresses), setOfPrefixes(add), setOfPrefixes(fresh)
	for _, p := range first {
		switch {
		case added.ContainsPrefix(p):
		case !there.ContainsPrefix(p), news.ContainsPrefix(p):
			vain = append(vain, p)
		}
	}
	return vain
}

// placedOnly leaves out of a plan made under the lock what was not placed before it: the next commit adds it.
func (c *Committer) placedOnly(p Plan) Plan {
	placed := c.placed()
	c.tenant.Lock()
	add := slices.DeleteFunc(slices.Clone(p.Add), func(x netip.Prefix) bool {
		until, mine := c.memory.mine[x]
		return !mine || placed[x] < until
	})
	c.tenant.Unlock()
	if len(add) < len(p.Add) {
		c.mu.Lock()
		c.batch.hurry(time.Now())
		c.mu.Unlock()
	}
	p.Add = add
	return p
}

// withdraw takes back what was placed for an edit that did not come to be: an administrator who holds the lock may be
// adding the very same address, which is his then. So may another leader, whose record stays.
func (c *Committer) withdraw(ctx context.Context, fresh []netip.Prefix) {
	c.lift(ctx, fresh, c.cfg.Set.UnplaceOwn)
	c.tenant.Lock()
	for _, p := range fresh {
		delete(c.memory.mine, p)
	}
	c.tenant.Unlock()
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

// verdict reads running in a new session to learn what an edit without a clear
// answer has done.
func (c *Committer) verdict(ctx context.Context, res result, cause error) (result, error) {
	c.forgetReading()
	within, done := c.lasting(ctx)
	defer done()
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
	if missing == 0 && left == 0 {
		c.log.Info("the commit took effect although its answer did not say so", "err", cause)
		return res, nil
	}
	return res, fmt.Errorf("%w; running lacks %d of %d additions and still holds %d of %d removals",
		cause, missing, len(res.Plan.Add), left, len(res.Plan.Remove))
}

// done takes in that a plan is in running.
func (c *Committer) done(ctx context.Context, p Plan) {
	c.unplace(ctx, p.Remove)
	c.replace(ctx, p.Add, nil)
	placed := c.placed()
	c.tenant.Lock()
	c.memory.committed(time.Now(), p, placed)
	c.tenant.Unlock()
	c.mu.Lock()
	c.estimate.at = time.Time{}
	c.mu.Unlock()
	c.mu.Lock()
	c.estimate.stale = true
	c.mu.Unlock()
}

// ours tells leftovers of banmesh in a candidate from somebody else's work: each
// addition was placed, each removal was placed and is due. What this member has
// seen in running is no leftover, if it is more than the shrink guard's share: then
// the reading that shows it gone is wrong, and undoing it would lift those bans with
// the next commit of whoever comes first. Nor is what was placed a moment ago, for
// the edit that is beginning.
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
		f.clocksAgree = true // whoever left it behind had the right to remove it
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

// place records durably, and lets the others know, what is about to be added:
// whatever becomes of this member, somebody can tell it from a foreign address
// and remove it in time. It returns what nobody had placed before, and what this member had not.
func (c *Committer) place(ctx context.Context, add []netip.Prefix) (news, first []netip.Prefix, err error) {
	placed := c.placed()
	c.tenant.Lock()
	fresh := make([]netip.Prefix, 0, len(add))
	for _, p := range add {
		// A record of this member's own, also where another one has placed it: that
		// one's may be lifted already where this member cannot see it.
		until, mine := c.memory.mine[p]
		if !mine || placed[p] < until {
			fresh = append(fresh, p)
		}
		if !mine {
			first = append(first, p)
		}
		if _, ok := placed[p]; !ok {
			news = append(news, p)
		}
	}
	c.tenant.Unlock()
	if len(fresh) > 0 {
		until := store.At(c.cfg.Now().Add(c.cfg.tuning.Lease))
		if err := c.cfg.Set.Place(ctx, fresh, until); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errRecord, err)
		}
		placed = c.placed()
		c.tenant.Lock()
		for _, p := range fresh {
			c.memory.mine[p] = until
		}
		for _, p := range add {
			c.memory.absent[p] = placed[p]
		}
		c.tenant.Unlock()
	}
	if c.cfg.spread != nil {
		ctx, done := context.WithTimeout(ctx, spreadTimeout)
		defer done()
		if err := c.cfg.spread(ctx); err != nil {
			c.log.Info("no other member has confirmed what is to be placed", "err", err)
		}
	}
	return news, first, nil
}

// replace records once more what is in running and was placed, where its record
// was lifted meanwhile by a member that did not see it there.
func (c *Committer) replace(ctx context.Context, add []netip.Prefix, present map[netip.Prefix]struct{}) {
	placed := c.placed()
	var lost []netip.Prefix
	for _, p := range add {
		if _, there := present[p]; present != nil && !there {
			continue
		}
		if _, ok := placed[p]; !ok {
			lost = append(lost, p)
		}
	}
	if len(lost) == 0 {
		return
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer done()
	if err := c.cfg.Set.Place(ctx, lost, store.At(c.cfg.Now().Add(c.cfg.tuning.Lease))); err != nil {
		c.log.Error("what is in the tenant cannot be recorded as placed", "prefixes", lost, "err", err)
	}
}

// unplace records that prefixes have left running.
func (c *Committer) unplace(ctx context.Context, gone []netip.Prefix) {
	c.lift(ctx, gone, c.cfg.Set.Unplace)
}

// lift has records of what was placed lifted, and forgets what was seen of it.
func (c *Committer) lift(ctx context.Context, gone []netip.Prefix, lift func(context.Context, []netip.Prefix) error) {
	placed := c.placed()
	gone = slices.DeleteFunc(slices.Clone(gone), func(p netip.Prefix) bool {
		_, ok := placed[p]
		return !ok // foreign, or lifted already
	})
	if len(gone) == 0 {
		return
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer done()
	if err := lift(ctx, gone); err != nil {
		c.log.Error("what is not in the tenant cannot be recorded", "prefixes", len(gone), "err", err)
		return
	}
	c.tenant.Lock()
	for _, p := range gone {
		delete(c.memory.seen, p)
		delete(c.memory.vain, p)
		delete(c.memory.absent, p)
	}
	c.tenant.Unlock()
}

// clearVain lifts the record of what was placed, never came into running, and is
// not wanted any more. It is called when the candidate was seen to be clean: a
// leftover in there could not be told from somebody else's work without it.
func (c *Committer) clearVain(ctx context.Context, p Plan) {
	c.unplace(ctx, slices.DeleteFunc(c.ripe(), func(x netip.Prefix) bool { return slices.Contains(p.Add, x) }))
}

// ripe lists what clearVain may lift.
func (c *Committer) ripe() []netip.Prefix {
	now := time.Now()
	c.tenant.Lock()
	defer c.tenant.Unlock()
	var ps []netip.Prefix
	for x, since := range c.memory.vain {
		if now.Sub(since) >= c.cfg.tuning.AbsentWait {
			ps = append(ps, x)
		}
	}
	return ps
}

// abandonable is the context of what may be given up: everything before the
// commit. It ends after the timeout and when leadership is lost.
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

// lasting is the context of what should come to its end: it outlives ctx by a
// short grace.
func (c *Committer) lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	long, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.Timeout)
	end := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(c.cfg.tuning.StopGrace, cancel)
		context.AfterFunc(long, func() { t.Stop() })
	})
	return long, func() { end(); cancel() }
}

// lostOr says that leadership was lost where that is why a step ended.
func (c *Committer) lostOr(step context.Context, err error) error {
	switch {
	case errors.Is(err, errLost), !c.cfg.Leading():
		return errLost
	case errors.Is(step.Err(), context.DeadlineExceeded) && !errors.Is(err, conductor.ErrUnreachable):
		return fmt.Errorf("%w within %s: %w", conductor.ErrUnreachable, c.cfg.Timeout, err)
	}
	return err
}
