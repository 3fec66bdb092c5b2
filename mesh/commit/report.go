package commit

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"banmesh/internal/ipranges"
	"banmesh/mesh/conductor/prefixset"
)

// estimate is what Status reports about the tenant, made on demand.
type estimate struct {
	stale                           bool
	at                              time.Time
	pause                           time.Duration // before it is made again
	committed, foreign              int
	add, remove, held, capped, hand int
	deferred, heldAdd               int
	readAt                          time.Time
	frozen                          bool
	frozenBy                        string
}

const (
	estimateFor   = 10 * time.Second       // how long an estimate is good if nothing changes
	estimateEvery = 200 * time.Millisecond // how often it is made at most, however much changes
	estimateShare = 20                     // it takes at most this part of the time: one in estimateShare
)

// publish keeps a plan's counts for Status.
func (c *Committer) publish(p Plan) {
	e := c.counts(p)
	c.shown(p)
	c.mu.Lock()
	e.pause = c.estimate.pause
	c.estimate = e
	c.mu.Unlock()
}

// estimateNow makes a plan for Status only. With a million bans it takes a second and hundreds of megabytes, so the more it
// costs, the longer it is used.
func (c *Committer) estimateNow() {
	began := time.Now()
	c.mu.Lock()
	lead := c.leading
	c.mu.Unlock()
	f := c.gather(c.supposed(lead), false)
	// When foreign addresses go is the leader's to say: it may have seen them later.
	f.removeForeign = f.removeForeign && lead
	c.publish(c.plan(f))
	c.mu.Lock()
	c.estimate.pause = max(estimateEvery, estimateShare*time.Since(began))
	c.mu.Unlock()
}

// counts reduces a plan to numbers for status. Locks are taken one after the other, never nested, see
// Committer.
func (c *Committer) counts(p Plan) estimate {
	placed := c.placed()
	e := estimate{at: time.Now(), add: len(p.Add), remove: len(p.Remove), held: len(p.Held), capped: len(p.Capped),
		hand: len(p.byHand), deferred: len(p.deferred), heldAdd: len(p.HeldAdd)}
	e.frozen, e.frozenBy = c.cfg.Set.Frozen()
	c.tenant.Lock()
	defer c.tenant.Unlock()
	// Committed is what a reading showed, however old, never what was intended.
	e.readAt = c.memory.at
	if !e.readAt.IsZero() {
		for x := range c.memory.present {
			_, ours := placed[x]
			if _, was := c.memory.ours[x]; ours || was {
				e.committed++
			} else {
				e.foreign++
			}
		}
	}
	return e
}

// Status returns what the command status shows about commits.
func (c *Committer) Status() Status {
	if c.cfg.Conductor == nil {
		return c.LastStatus()
	}
	if c.estimateDue() {
		c.estimating.Lock()
		if c.estimateDue() { // unless another call has just made it
			c.estimateNow()
		}
		c.estimating.Unlock()
	}
	return c.LastStatus()
}

// estimateDue spreads the cost: a plan over a million bans takes long, and pause grows with it. An age below
// zero means that the clock was set.
func (c *Committer) estimateDue() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &c.estimate
	age := time.Since(e.at)
	return e.at.IsZero() || age > max(estimateFor, e.pause) || e.stale && age >= e.pause || age < 0
}

// LastStatus returns Status with the counts of the last plan. It costs nothing, for callers that poll.
func (c *Committer) LastStatus() Status {
	if c.cfg.Conductor == nil {
		return Status{State: StateOff, Why: ErrOff.Error()}
	}
	features, more := c.cfg.Conductor.Features(), c.cfg.Conductor.Warnings()
	c.mu.Lock()
	defer c.mu.Unlock()
	e, a := c.estimate, c.ability
	s := Status{
		State: c.show.state, Detail: c.show.detail, Committed: e.committed, PendingAdd: e.add, PendingRemove: e.remove,
		Foreign: e.foreign, Held: e.held + e.heldAdd,
		Commits: c.show.commits, LastCommit: c.show.lastCommit, LastError: c.show.lastError,
		Features: features, Able: a.able, Why: a.why, ReadAt: e.readAt,
	}
	if !a.able && a.tried {
		if s.LastError == "" {
			s.LastError = a.why
		}
		if s.State == "" {
			s.State, s.Detail = StateFailing, a.why
		}
	}
	switch {
	case s.State != "":
	// A failure above is shown first: a freeze ends by a command, a failure needs a look.
	case e.frozen:
		s.State, s.Detail = StateFrozen, "by "+e.frozenBy
	case e.add+e.remove > 0:
		s.State = StatePending
	default:
		s.State = StateIdle
	}
	s.Warnings = append(e.warnings(a, c.cfg), more...)
	return s
}

// warnings says in words what keeps bans from the conductor, each with the way out if there is one.
func (e estimate) warnings(a ability, cfg Config) []string {
	var w []string
	if !a.able && a.tried {
		w = append(w, "this member cannot commit: "+a.why)
	}
	if e.held > 0 {
		w = append(w, cfg.heldRemovals(e.held))
	}
	if e.heldAdd > 0 {
		w = append(w, cfg.heldAdditions(e.heldAdd))
	}
	if e.capped > 0 {
		w = append(w, fmt.Sprintf("%d prefixes are not committed: max_addresses is %d", e.capped, cfg.MaxAddresses))
	}
	if e.hand > 0 {
		w = append(w, fmt.Sprintf("%d prefixes were removed from the tenant by hand; they are put back later unless they are unbanned", e.hand))
	}
	if e.deferred > 0 {
		w = append(w, fmt.Sprintf("%d ended bans stay in the tenant: the members' clocks disagree, or their records have not arrived", e.deferred))
	}
	return w
}

// supposed is the tenant's content as far as this member can tell: a leader has read it, the others go by what leaders have
// placed, and by what they themselves last read there that nobody had placed.
func (c *Committer) supposed(lead bool) []netip.Prefix {
	c.tenant.Lock()
	if lead && c.memory.valid {
		defer c.tenant.Unlock()
		return c.memory.running
	}
	var foreign []netip.Prefix
	for p, s := range c.memory.foreign {
		if s.gone.IsZero() {
			foreign = append(foreign, p)
		}
	}
	c.tenant.Unlock()
	placed := c.placed()
	there := slices.AppendSeq(make([]netip.Prefix, 0, len(placed)+len(foreign)), maps.Keys(placed))
	for _, p := range foreign {
		if _, ours := placed[p]; !ours {
			there = append(there, p)
		}
	}
	slices.SortFunc(there, comparePrefixes)
	return there
}

// CommittedNow returns a function that reports whether all of an effective prefix is in the tenant, as far as this member can
// tell. It is cheap to call for many prefixes, and answers for the moment at which CommittedNow was called.
func (c *Committer) CommittedNow() func(netip.Prefix) bool {
	if c.cfg.Conductor == nil {
		return func(netip.Prefix) bool { return false }
	}
	c.mu.Lock()
	lead := c.leading
	c.mu.Unlock()
	running := c.supposed(lead)
	exact := make(map[netip.Prefix]struct{}, len(running))
	for _, p := range running {
		exact[p] = struct{}{}
	}
	var within func(netip.Prefix) bool // made on first use
	return func(p netip.Prefix) bool {
		if _, ok := exact[p]; ok {
			return true
		}
		if len(running) == 0 {
			return false
		}
		if within == nil {
			within = Within(setOfPrefixes(running), c.cfg.Set.Exemptions())
		}
		return within(p)
	}
}

// Within returns a function that reports whether a tenant holds all of an effective prefix: some of it, and all that is not
// exempt. The function is cheap to call for many prefixes.
func Within(tenant ipranges.Set, exemptions *netipx.IPSet) func(netip.Prefix) bool {
	var b netipx.IPSetBuilder
	b.AddSet(tenant.IPSet)
	b.AddSet(exemptions)
	space := setOf(&b)
	return func(p netip.Prefix) bool { return tenant.OverlapsPrefix(p) && space.ContainsPrefix(p) }
}

// RemovedByHand lists what somebody has removed from the tenant although it is banned, and what is not put back yet, as this
// member has read it.
func (c *Committer) RemovedByHand() []netip.Prefix {
	c.tenant.Lock()
	removed := c.memory.notBefore()
	c.tenant.Unlock()
	if len(removed) == 0 {
		return nil
	}
	placed := c.placed()
	var ps []netip.Prefix
	for p := range removed {
		if _, ours := placed[p]; ours {
			ps = append(ps, p)
		}
	}
	slices.SortFunc(ps, comparePrefixes)
	return ps
}

// HeardByHand records the leader's RemovedByHand: if this member leads next, it does not put back at once what only the former
// leader saw removed.
func (c *Committer) HeardByHand(removed []netip.Prefix) {
	if len(removed) == 0 {
		return // nearly always empty
	}
	now := time.Now()
	placed := c.placed()
	c.tenant.Lock()
	defer c.tenant.Unlock()
	for _, p := range removed {
		if _, ours := placed[p]; ours {
			c.memory.heardByHand(now, p, c.cfg.tuning.ByHandWait)
		}
	}
}

// reportCommit reports a commit that is in running.
func (c *Committer) reportCommit(r Result) {
	if r.Plan.Empty() {
		return
	}
	c.log.Info("committed", "add", len(r.Plan.Add), "remove", len(r.Plan.Remove), "took", r.Took)
	c.cfg.OnEvent(Event{Time: c.cfg.Now(), Kind: EventCommit, Add: r.Plan.Add, Remove: r.Plan.Remove, Took: r.Took})
}

func (c Config) heldRemovals(n int) string {
	return fmt.Sprintf("%d removals would take more than %d%% of the tenant: check, then run banmesh commit --force", n, c.MaxShrinkPercent)
}

func (c Config) heldAdditions(n int) string {
	return fmt.Sprintf("%d bans are kept from the conductor: they are wider than /%d (IPv6 /%d), or more than %d and %d%% of the tenant in an hour: look at banmesh diff, then run banmesh commit --force",
		n, widestIPv4, widestIPv6, c.GrowthFloor, c.MaxGrowthPercent)
}

// reportHeld reports once that something is held until an operator confirms it.
func (c *Committer) reportHeld(p Plan) {
	c.mu.Lock()
	// More than the last time, so that the same ones are told once.
	removals, additions := len(p.Held) > c.show.held, len(p.HeldAdd) > c.show.heldAdd
	c.show.held, c.show.heldAdd = len(p.Held), len(p.HeldAdd)
	c.mu.Unlock()
	if removals {
		text := c.cfg.heldRemovals(len(p.Held))
		c.log.Warn("removals held back", "removals", len(p.Held), "why", text)
		c.cfg.OnEvent(Event{Time: c.cfg.Now(), Kind: EventHeld, Remove: p.Held, Detail: text})
	}
	if additions {
		text := c.cfg.heldAdditions(len(p.HeldAdd))
		c.log.Warn("additions held back", "additions", len(p.HeldAdd), "why", text, "some", prefixset.Some(p.HeldAdd))
		c.cfg.OnEvent(Event{Time: c.cfg.Now(), Kind: EventHeld, Add: p.HeldAdd, Detail: text})
	}
}
