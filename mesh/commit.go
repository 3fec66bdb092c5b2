package mesh

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"

	"banmesh/mesh/commit"
	"banmesh/mesh/conductor"
	"banmesh/mesh/control"
	"banmesh/mesh/leader"
	"banmesh/mesh/peer"
	"banmesh/store"
)

// staleSession is for how long a former leader must have been silent before
// its session may be killed: frozen, with the lock kept.
const staleSession = 15 * time.Second

// openCommit makes the election and, where a conductor is configured, the
// committer.
func (a *Agent) openCommit() (err error) {
	a.elector, err = leader.New(leader.Config{
		Name: a.cfg.Name, Priority: a.cfg.Leader.Priority, Observer: !a.mayLead(),
		Peers: a.electorate, Observers: a.observers, Able: a.able, Ignore: a.mayNotLead, Send: a.peers.SendHeartbeat, Random: a.doors.Random, OnChange: a.leads, Logger: a.log,
	})
	if err != nil || a.conductor == nil {
		return err
	}
	k := &a.cfg.Commit
	c := commit.DefaultConfig()
	c.Name, c.Set, c.Conductor, c.Now, c.Logger = a.cfg.Name, a.store, a.conductor, a.clock.now, a.log
	c.Random = a.doors.Random
	c.Window, c.MaxWait, c.MinInterval = time.Duration(k.Window), time.Duration(k.MaxWait), time.Duration(k.MinInterval)
	c.Timeout = time.Duration(k.Timeout)
	c.MaxAddresses, c.MaxShrinkPercent = k.MaxAddresses, k.MaxShrinkPercent
	c.MaxGrowthPercent, c.GrowthFloor = k.MaxGrowthPercent, k.GrowthFloor
	c.Foreign.Remove, c.Foreign.After = k.Foreign == "remove", time.Duration(k.RemoveForeignAfter)
	c.Aggregate = a.cfg.Bans.Aggregate
	c.Quorum = a.enough()
	c.Leading = func() bool { return a.elector.Status().Self }
	c.Ready = a.mesh.Settled
	c.ClocksAgree = a.clock.agree.Load
	c.SetWork = a.setWork
	c.StaleSessions = a.staleSessions
	c.Peers = a.committers
	c.OnEvent = a.committedEvent
	a.stall = newStall(c)
	a.committer, err = commit.New(c)
	return err
}

// neverMetWait is how long a router that joins others and has never met any does
// not lead.
const neverMetWait = 5 * time.Minute

var errUnsettled = errors.New("not settled: too little has been heard of the other members")

// able says whether this member could commit now, and if not why.
func (a *Agent) able() (bool, string) {
	if !a.mesh.Settled() {
		return false, errUnsettled.Error()
	}
	if err := a.store.Health(); silent(err) {
		return false, err.Error()
	} else if err != nil {
		return false, fmt.Sprintf("the store cannot be written: %v", err)
	}
	// Its bans may be on the other side of a wrong key or a closed port, and with
	// them another leader.
	if wait := neverMetWait - a.clock.raw().Sub(a.started); wait > 0 && a.mesh.NeverMet() {
		return false, "none of those that this router joins has ever answered: it leads alone in " + wait.Round(time.Second).String()
	}
	return a.committer.Able()
}

var works = map[commit.Work]leader.State{
	commit.WorkIdle: leader.Idle, commit.WorkCommitting: leader.Committing, commit.WorkWaiting: leader.Waiting,
	commit.WorkUnable: leader.Unable,
}

func (a *Agent) setWork(w commit.Work, detail string, session conductor.SessionAt, until time.Time) {
	a.elector.SetWork(works[w], detail, leader.Session(session), until)
}

// staleSessions are those of former leaders that may be killed where they hold
// the lock.
func (a *Agent) staleSessions() []conductor.SessionAt {
	var stale []conductor.SessionAt
	for _, s := range a.elector.Silent(staleSession) {
		stale = append(stale, conductor.SessionAt(s))
	}
	return stale
}

// committedEvent tells what happened at the conductor to who monitors.
func (a *Agent) committedEvent(e commit.Event) {
	event := control.Event{Time: control.At(e.Time), Event: "commit", Name: a.cfg.Name, Add: len(e.Add), Remove: len(e.Remove), Detail: e.Detail}
	if e.Kind != commit.EventCommit {
		event.Event, event.Error = "error", string(e.Kind)
	}
	a.events.publish(event)
	if a.watchers.metrics != nil {
		a.watchers.metrics.Committed(e)
	}
	if a.cfg.Commit.CutSessions && e.Kind == commit.EventCommit && len(e.Add) > 0 {
		go a.cutSessions(e.Add)
	}
}

// committedElsewhere reports another member's commit to this router's monitors, so
// that every router shows the same events.
func (a *Agent) committedElsewhere(leader string, r peer.Report) {
	a.events.publish(control.Event{Time: control.At(a.clock.now()), Event: "commit", Name: leader, Detail: fmt.Sprintf("%d addresses at the conductor", r.Committed)})
}

// cutSessions ends what the sources just banned had going on; their ban stands
// whether that succeeds or not.
func (a *Agent) cutSessions(banned []netip.Prefix) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(a.cfg.Commit.Timeout))
	defer cancel()
	ended, err := a.conductor.CutSessions(ctx, banned)
	if err != nil {
		a.log.Warn("end the live sessions of banned sources", "ended", ended, "error", err)
		return
	}
	a.log.Info("live sessions of banned sources ended", "sessions", ended)
}

// Diff returns what the next commit would change at the conductor.
func (a *Agent) Diff(ctx context.Context) (control.Diff, error) {
	if a.committer == nil {
		return control.Diff{}, commitRefusal(commit.ErrOff)
	}
	plan, err := a.committer.Plan(ctx)
	return diff(plan), commitRefusal(err)
}

func diff(p commit.Plan) control.Diff {
	return control.Diff{Add: p.Add, Remove: p.Remove, Foreign: p.Foreign, Capped: p.Capped, Held: p.Held, HeldAdd: p.HeldAdd}
}

// Commit has the leader commit now, which may be this agent.
func (a *Agent) Commit(ctx context.Context, c control.CommitCall) (control.CommitReply, error) {
	if c.DryRun {
		d, err := a.Diff(ctx)
		return control.CommitReply{Diff: d}, err
	}
	lead, let := a.elector.Status(), 0
	if c.Force {
		n, err := a.store.GiveWord(ctx)
		if err != nil {
			return control.CommitReply{}, refusal(err)
		}
		let = n
	}
	reply, err := a.commitBy(ctx, lead, c.Force)
	if let > 0 {
		text := fmt.Sprintf("%d held bans take effect on this router", let)
		if err != nil { // where nobody commits, that is all there is to do
			if a.committer != nil {
				return reply, control.Errorf(control.CodeConflict, "%s; %v", text, err)
			}
			reply, err = control.CommitReply{Detail: text}, nil
		} else {
			reply.Detail = strings.TrimPrefix(reply.Detail+"; "+text, "; ")
		}
	}
	return reply, err
}

// commitBy has who leads commit.
func (a *Agent) commitBy(ctx context.Context, lead leader.Status, force bool) (control.CommitReply, error) {
	switch {
	case lead.Self:
		return a.commitHere(ctx, force)
	case lead.Leader == "":
		return control.CommitReply{}, control.Errorf(control.CodeConflict, "commit: no router leads now: `banmesh status` says why")
	}
	return a.peers.CommitAt(ctx, lead.Leader, force)
}

func (a *Agent) commitHere(ctx context.Context, force bool) (control.CommitReply, error) {
	if a.committer == nil {
		return control.CommitReply{}, commitRefusal(commit.ErrOff)
	}
	result, err := a.committer.CommitNow(ctx, force)
	if err != nil {
		return control.CommitReply{}, commitRefusal(err)
	}
	reply := control.CommitReply{Diff: diff(result.Plan), Leader: a.cfg.Name, Committed: !result.Plan.Empty()}
	if reply.Committed {
		reply.Detail = fmt.Sprintf("%d added, %d removed in %v", len(reply.Add), len(reply.Remove), result.Took.Round(time.Millisecond))
	}
	return reply, nil
}

// commitFor commits for another router.
func (a *Agent) commitFor(ctx context.Context, force bool) (control.CommitReply, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(a.cfg.Commit.Timeout))
	defer cancel()
	// Force from afar could be anybody's who has the gossip key.
	reply, err := a.commitHere(ctx, false)
	if held := len(reply.Held) + len(reply.HeldAdd); err == nil && force && held > 0 {
		err = fmt.Errorf("%d changes are held, and --force confirms them only on the leader itself: run `banmesh commit --force` on %s", held, a.cfg.Name)
	}
	return reply, err
}

func commitRefusal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, commit.ErrOff), errors.Is(err, commit.ErrNotLeader), errors.Is(err, commit.ErrNotReady),
		errors.Is(err, conductor.ErrBusy), errors.Is(err, commit.ErrBarred):
		return &control.Error{Code: control.CodeConflict, Message: err.Error()}
	}
	return &control.Error{Code: control.CodeInternal, Message: err.Error()}
}

// commitStatus is how the commits stand: the leader's own view on every
// router, this agent's where nobody leads.
func (a *Agent) commitStatus() control.CommitStatus {
	return a.commitStatusBy((*commit.Committer).Status)
}

// commitStatusBy is the same by what the committer is asked for: its Status, or
// its LastStatus, which costs nothing.
func (a *Agent) commitStatusBy(ask func(*commit.Committer) commit.Status) control.CommitStatus {
	own := commit.Status{State: commit.StateOff}
	if a.committer != nil {
		own = ask(a.committer)
	}
	s := control.CommitStatus{Driver: a.cfg.Commit.Driver}
	s.State, s.Detail, s.Committed, s.PendingAdd, s.PendingRemove = string(own.State), own.Detail, own.Committed, own.PendingAdd, own.PendingRemove
	s.Foreign, s.Held, s.Commits, s.Features, s.LastError = own.Foreign, own.Held, own.Commits, own.Features, text(own.LastError)
	s.LastCommit = control.At(own.LastCommit)
	if s.Unread = a.committer != nil && own.ReadAt.IsZero(); a.committer != nil && !s.Unread {
		s.ReadAt, s.ReadBy = control.At(own.ReadAt), a.cfg.Name
	}
	lead := a.elector.Status()
	r, known := a.peers.ReportOf(lead.Leader)
	if lead.Self || !known {
		return s
	}
	s.State, s.Detail, s.LastError, s.LastCommit = r.State, r.Detail, text(r.LastError), control.Time(r.LastCommit)
	s.Committed, s.PendingAdd, s.PendingRemove = int(r.Committed), int(r.PendingAdd), int(r.PendingRemove)
	s.Foreign, s.Held, s.Commits = int(r.Foreign), int(r.Held), r.Commits
	s.ReadAt, s.ReadBy, s.Unread = control.Time(r.Verified), lead.Leader, r.Verified == 0
	return s
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// commitWarnings says what keeps bans from the conductor.
func (a *Agent) commitWarnings(s *control.Status, ask func(*commit.Committer) commit.Status) []string {
	if a.committer == nil {
		return nil
	}
	own := ask(a.committer)
	w := own.Warnings
	if s.Leader == nil && !own.Able && own.Why != "" {
		// Instead of what the committer says of this router alone.
		w = slices.DeleteFunc(slices.Clone(w), func(text string) bool { return strings.HasSuffix(text, ": "+own.Why) })
		w = append(w, "no router commits; this one cannot: "+own.Why)
	}
	lead := a.elector.Status()
	if r, known := a.peers.ReportOf(lead.Leader); known && !lead.Self && r.ByHand != "" {
		w = append(w, fmt.Sprintf("removed from the tenant by hand, and put back later unless unbanned: %s", r.ByHand))
	}
	if text := a.stall.warning(); text != "" {
		w = append(w, text)
	}
	for _, name := range a.stall.passedOver() {
		w = append(w, fmt.Sprintf("%s led and nothing has moved to the conductor: this router does not follow it for %v; `banmesh status` there says why, and `banmesh revoke --origin %s --block` takes its say from it", name, barredFor, name))
	}
	if s.Commit.Held > 0 && !lead.Self { // the leader's own warnings say it
		w = append(w, fmt.Sprintf("%d changes at the conductor are held until an operator confirms them, because they are too many at once or too wide: look at `banmesh diff`, then `banmesh commit --force`", s.Commit.Held))
	}
	return w
}

// committedNow returns a function that says whether all of a prefix that is
// effective is in running: the leader has read it, the others go by what was
// placed until the leader last found it there, and know of nothing before it
// has told them.
func (a *Agent) committedNow() func(netip.Prefix) bool {
	lead := a.elector.Status()
	if a.committer != nil && lead.Self {
		return a.committer.CommittedNow()
	}
	r, known := a.peers.ReportOf(lead.Leader)
	if !known {
		return func(netip.Prefix) bool { return false }
	}
	var b netipx.IPSetBuilder
	for _, p := range a.store.Placed() {
		if p.Start <= store.Millis(r.Verified) {
			b.AddPrefix(p.Prefix)
		}
	}
	for _, p := range r.RemovedByHand() {
		b.RemovePrefix(p)
	}
	running, err := b.IPSet()
	if err != nil { // it holds valid prefixes only
		return func(netip.Prefix) bool { return false }
	}
	b.AddSet(a.store.Exemptions())
	space, err := b.IPSet()
	return func(p netip.Prefix) bool {
		return err == nil && running.OverlapsPrefix(p) && space.ContainsPrefix(p)
	}
}
