package commit

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"banmesh/internal/ipranges"
	"banmesh/internal/random"
	"banmesh/mesh/conductor"
	"banmesh/store"
)

// Committer brings the effective bans of its Set to its Conductor. New makes one and Run starts it. All methods may be called
// at any time.
type Committer struct {
	cfg      Config
	log      *slog.Logger
	wake     chan struct{} // holds one: Run has work
	requests chan request
	stopped  chan struct{} // closed when Run has returned

	// Locks are taken in the order estimating, tenant, mu. None is held over a call to the conductor or to a hook.
	estimating sync.Mutex // held while Status has a plan made

	tenant sync.Mutex // guards memory; Run changes it, plans end waits in it, and HeardByHand adds some
	memory memory

	gathered atomic.Int64 // number of bans at the last look: capacity for the next

	mu       sync.Mutex // guards the rest
	batch    batch
	changes  uint64    // of the set, as notified
	changed  time.Time // when the last of them was
	leading  bool      // as Run last saw it
	ability  ability
	retry    backoff
	editFail bool // the last edit failed: the back-off survives a change of leader
	show     show
	estimate estimate
	cancel   context.CancelFunc // cancels the step under way, if losing leadership may end it
	rescue   time.Duration      // this member's place in the order of those that renew leases when nobody leads
	house    time.Time          // next housekeeping
}

// request is a CommitNow on its way to Run.
type request struct {
	force bool
	reply chan<- answer
}

// answer is what an operator's request gets; its channel holds one, so that Run never waits for a caller that
// has gone.
type answer struct {
	result Result
	err    error
}

// show is what Status reports of the attempts.
type show struct {
	state      State // committing, waiting, failing, or "" for none of them
	detail     string
	commits    uint64
	lastCommit time.Time
	lastError  string
	cause      error // of lastError
	edit       bool  // an edit failed, not a reading
	held       int   // removals reported in an event
	heldAdd    int   // additions reported in an event
}

// clear forgets a failure.
func (s *show) clear() { s.state, s.detail, s.lastError, s.cause, s.edit = "", "", "", nil, false }

// New makes a Committer. It does nothing before Run.
func New(cfg Config) (*Committer, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.tuning == (tuning{}) {
		cfg.tuning = defaultTuning()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Ready == nil {
		cfg.Ready = func() bool { return true }
	}
	if cfg.ClocksAgree == nil {
		cfg.ClocksAgree = func() bool { return true }
	}
	if cfg.SetWork == nil {
		cfg.SetWork = func(Work, string, conductor.SessionAt, time.Time) {}
	}
	if cfg.StaleSessions == nil {
		cfg.StaleSessions = func() []conductor.SessionAt { return nil }
	}
	if cfg.OnEvent == nil {
		cfg.OnEvent = func(Event) {}
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Committer{cfg: cfg, log: cfg.Logger, wake: make(chan struct{}, 1), requests: make(chan request),
		stopped: make(chan struct{}), memory: newMemory()}
	c.batch = batch{window: cfg.Window, maxWait: cfg.MaxWait, expiryWait: cfg.tuning.ExpiryWait, interval: cfg.MinInterval, burst: cfg.tuning.Burst}
	c.ability = newAbility(cfg)
	c.retry = backoff{least: cfg.tuning.MinBackoff, most: cfg.tuning.MaxBackoff, random: c.ability.random}
	c.rescue = random.Below(c.ability.random, cfg.tuning.RescueBelow/2)
	return c, nil
}

// Run commits what is due until ctx ends. It then abandons an edit under way, and gives a commit under way tuning.StopGrace to
// complete. It returns nil.
func (c *Committer) Run(ctx context.Context) error {
	defer close(c.stopped)
	if c.cfg.Conductor == nil {
		return c.runOff(ctx)
	}
	c.mu.Lock()
	now := time.Now()
	c.ability.start(now)
	c.house = now.Add(c.cfg.tuning.Housekeep)
	c.mu.Unlock()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		timer.Reset(max(time.Until(c.turn(ctx)), 0))
		select {
		case <-ctx.Done():
		case r := <-c.requests:
			res, err := c.onRequest(ctx, r.force)
			r.reply <- answer{res, err}
		case <-c.wake:
		case <-timer.C:
		}
	}
	c.cfg.SetWork(WorkIdle, "", conductor.SessionAt{}, time.Time{})
	return nil
}

// runOff is Run of a member without a conductor: it refuses requests at once, instead of leaving them to
// their time limits.
func (c *Committer) runOff(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-c.requests:
			r.reply <- answer{err: ErrOff}
		}
	}
}

// turn does what is due and returns when to look again.
func (c *Committer) turn(ctx context.Context) time.Time {
	// Both may change at any time. What follows from this look is decided below under mu, and asked again
	// before each step (mayCommit).
	lead := c.cfg.Leading() && c.cfg.Ready()
	now := time.Now()
	c.mu.Lock()
	gained, lost := lead && !c.leading, !lead && c.leading
	c.leading = lead
	switch {
	case gained:
		// These changes have already waited at the former leader.
		c.batch.take()
		c.batch.hurry(now)
		if !c.editFail { // what makes edits fail here makes them fail for the next leader too
			c.retry.reset()
			c.show.clear()
		}
	case lost:
		c.batch.take()
		c.show.held, c.show.heldAdd = 0, 0
		if c.ability.able && !c.editFail {
			c.retry.reset()
		}
		c.show.clear() // another member makes the attempts now; this one reports its own ability separately
	}
	// The others go by the word last announced: it must not outlive a change of leader.
	idle := gained || lost && c.ability.able
	c.estimate.stale = c.estimate.stale || gained || lost
	read := !now.Before(c.ability.next)
	work := lead && c.ability.able && c.retry.passed(now) && reached(c.batch.due(), now)
	keep := !now.Before(c.house)
	if keep {
		c.house = now.Add(c.cfg.tuning.Housekeep)
	}
	c.mu.Unlock()

	if idle {
		c.cfg.SetWork(WorkIdle, "", conductor.SessionAt{}, time.Time{})
	}
	switch {
	case gained:
		c.takeOver()
	case read:
		if c.probe(ctx) == nil && lead {
			c.review()
		}
	case work:
		_, _ = c.work(ctx, false) // status and events show the error
	}
	if keep {
		c.housekeep(ctx, lead)
	}
	doubt := lead && c.resolveDoubts(now)

	c.mu.Lock()
	defer c.mu.Unlock()
	next := earliest(c.house, c.ability.next)
	if doubt {
		next = earliest(next, now.Add(c.cfg.tuning.Doubt))
	}
	// At once: taking over has only begun, and the first reading is due.
	if gained {
		return now
	}
	if lead && c.ability.able {
		if at := c.batch.due(); !at.IsZero() {
			next = earliest(next, later(at, c.retry.at))
		}
	}
	return next
}

func reached(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// takeOver resets this member to one that has not read the tenant as leader: another leader may have changed it since, and
// removed what was ours.
func (c *Committer) takeOver() {
	c.forgetReading()
	placed := c.placed()
	c.tenant.Lock()
	defer c.tenant.Unlock()
	for _, p := range c.memory.lost(placed) {
		delete(c.memory.ours, p)
	}
}

// forgetReading makes the next attempt read the tenant before it plans. What was seen remains known; it is no
// longer taken for the present state.
func (c *Committer) forgetReading() {
	c.tenant.Lock()
	c.memory.valid = false
	c.tenant.Unlock()
}

// Notify reports a change of the Set. It never blocks.
func (c *Committer) Notify(u Urgency) {
	now := time.Now()
	c.mu.Lock()
	c.estimate.stale = true
	c.changes++
	c.changed = now
	if c.leading {
		c.batch.note(now, u)
	}
	c.mu.Unlock()
	c.kick()
}

// Changed returns when the last change of the Set was notified, zero for never.
func (c *Committer) Changed() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// LeaderChanged reports that Leading or Ready may have changed. If leadership is lost, an edit that is not yet being committed
// is abandoned. It never blocks.
func (c *Committer) LeaderChanged() {
	lead := c.cfg.Leading()
	c.mu.Lock()
	cancel := c.cancel
	c.mu.Unlock()
	if !lead && cancel != nil {
		cancel()
	}
	c.kick()
}

// ProbeSoon makes a member that is not able, or has not looked for long, read the tenant soon: the leader has fallen silent and
// somebody has to follow. Refused credentials are not retried any sooner. It never blocks.
func (c *Committer) ProbeSoon() {
	now := time.Now()
	c.mu.Lock()
	c.ability.soon(now)
	c.mu.Unlock()
	c.kick()
}

// ReadSoon makes a member read the tenant within two seconds, unless credentials were refused. It never blocks.
func (c *Committer) ReadSoon() {
	now := time.Now()
	c.mu.Lock()
	if c.ability.able && !c.ability.barred(now) {
		// All members doubt at once, and the conductor can handle only a few sessions.
		c.ability.next = earliest(c.ability.next, now.Add(random.Below(c.ability.random, 2*time.Second)))
	}
	c.mu.Unlock()
	c.kick()
}

// kick has Run look whether something is due. It never blocks.
func (c *Committer) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Able reports whether this member could commit, and if not, why. It never blocks.
func (c *Committer) Able() (bool, string) {
	if c.cfg.Conductor == nil {
		return false, ErrOff.Error()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ability.able, c.ability.why
}

// CommitNow commits what waits, without waiting for company, its turn or the end of a back-off. force also commits the held
// removals, and the additions that a plan of this member has shown as held, but none that came since. If there was nothing to
// commit, the result's Took is 0. Errors: ErrOff, ErrNotLeader, ErrNotReady, ErrBarred, and those of a Conductor.
func (c *Committer) CommitNow(ctx context.Context, force bool) (Result, error) {
	reply := make(chan answer, 1)
	select {
	// Run takes it between two turns, so that there is never more than one commit at a time.
	case c.requests <- request{force, reply}:
	case <-c.stopped:
		return Result{}, errStopped
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
	select {
	case a := <-reply:
		return a.result, a.err
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

// onRequest makes the commit that an operator asked for. It ignores pauses, but not the one after refused
// credentials: each further attempt would help lock the account.
func (c *Committer) onRequest(ctx context.Context, force bool) (Result, error) {
	if err := c.mayCommit(); err != nil {
		return Result{}, err
	}
	c.mu.Lock()
	wait := c.ability.barred(time.Now())
	c.mu.Unlock()
	if wait {
		return Result{}, ErrBarred
	}
	c.forgetReading() // an operator wants the present state
	if force {
		c.giveWord()
	}
	return c.work(ctx, force)
}

// mayCommit is asked before each step that others can see, since leadership can end at any time.
func (c *Committer) mayCommit() error {
	switch {
	case !c.cfg.Leading():
		return ErrNotLeader
	case !c.cfg.Ready():
		return ErrNotReady
	}
	return nil
}

// Plan reads the tenant and returns what the next commit would change. It writes nothing, neither at the conductor nor here.
func (c *Committer) Plan(ctx context.Context) (Plan, error) {
	if c.cfg.Conductor == nil {
		return Plan{}, ErrOff
	}
	c.mu.Lock()
	wait := c.ability.barred(time.Now())
	c.mu.Unlock()
	if wait {
		return Plan{}, ErrBarred
	}
	ctx, done := context.WithTimeout(ctx, c.cfg.Timeout)
	defer done()
	running, err := c.cfg.Conductor.Read(ctx)
	if err != nil {
		return Plan{}, err
	}
	p := c.plan(c.gather(running.Addresses, false))
	c.shown(p)
	return p, nil
}

// plan makes a plan from what this member remembers of the tenant.
func (c *Committer) plan(f facts) Plan {
	c.tenant.Lock()
	c.memory.pardon(f.bans, f.placed)
	f.notBefore = c.memory.notBefore()
	if lost := c.memory.lost(f.placed); len(lost) > 0 {
		for _, p := range f.running {
			if _, ours := slices.BinarySearchFunc(lost, p, comparePrefixes); ours {
				f.placed[p] = c.memory.ours[p]
			}
		}
	}
	f.foreignSince = make(map[netip.Prefix]time.Time, len(c.memory.foreign))
	for p, s := range c.memory.foreign {
		f.foreignSince[p] = s.since
	}
	f.known, f.waiting, f.before = c.memory.free(), c.memory.waiting, c.memory.sizeBefore()
	c.tenant.Unlock()
	return makePlan(f)
}

// gather collects the facts from which a plan is made.
func (c *Committer) gather(running []netip.Prefix, force bool) facts {
	f := facts{
		now: time.Now(), date: c.cfg.Now(), placed: c.placed(), running: running, exemptions: ipranges.Of(c.cfg.Set.Exemptions()), gone: c.cfg.Set.Gone,
		clocksAgree: c.cfg.ClocksAgree(), force: force,
		maxAddresses: c.cfg.MaxAddresses, maxShrink: c.cfg.MaxShrinkPercent,
		maxGrowth: c.cfg.MaxGrowthPercent, growthFloor: c.cfg.GrowthFloor, aggregate: c.cfg.Aggregate,
		removeForeign: c.cfg.Foreign.Remove, foreignAfter: c.cfg.Foreign.After,
		lease: c.cfg.tuning.Lease, missingWait: c.cfg.tuning.MissingWait,
	}
	f.frozen, _ = c.cfg.Set.Frozen()
	var quorum func(store.EffectiveBan) bool
	if c.cfg.Quorum != nil {
		quorum = c.cfg.Quorum()
	}
	f.bans = make([]ban, 0, c.gathered.Load()*9/8)
	for b := range c.cfg.Set.Effective() {
		wanted := quorum == nil || quorum(b)
		// A ban with holes comes as the prefixes of what is left of it.
		for _, p := range b.Pieces {
			f.bans = append(f.bans, ban{prefix: p, newest: b.Newest, origins: b.Origins, records: b.Records, wanted: wanted, wide: tooWide(b.Prefix)})
		}
	}
	c.gathered.Store(int64(len(f.bans)))
	return f
}
