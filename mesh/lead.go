package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"banmesh/mesh/commit"
	"banmesh/mesh/conductor"
	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
	"banmesh/mesh/leader"
	"banmesh/mesh/peer"
	"banmesh/mesh/quorum"
	"banmesh/store"
)

// staleSession is for how long a former leader must have been silent before
// its session may be killed: frozen, with the lock kept.
// Five times the silence after which another member leads: a leader that is merely slow is back by then.
const staleSession = 15 * time.Second

// leadConfig is what a lead needs of the agent.
type leadConfig struct {
	Config    *config.Config
	MayLead   bool // it is configured to commit
	Started   time.Time
	Set       *store.Store
	Mesh      *gossip.Mesh
	Peers     *peer.Messenger
	Clock     *clock
	Random    rand.Source
	Ignored   func(name string) bool
	Publish   func(...control.Event)
	Committed func(commit.Event)
	Logger    *slog.Logger
}

// lead is this router's part in leading the mesh: the election, and the commits while
// it leads.
type lead struct {
	leadConfig
	// Whether enough routers have banned a prefix to commit it.
	quorum    *quorum.Quorum
	elector   *leader.Elector
	conductor *conductor.Conductor // nil where none is configured
	committer *commit.Committer    // likewise
	stall     *leader.Stall        // likewise
	looks     looks                // watchStall's own
	probe     *storeProbe
}

// open makes the election and, where a conductor is configured, the committer.
func (l *lead) open(with leadConfig) (err error) {
	l.leadConfig, l.probe = with, newStoreProbe(with.Config.DataDir)
	l.probe.done = func() { l.elector.Recheck() }
	l.quorum = quorum.New(&with.Config.Quorum, with.Set, with.Mesh.Members)
	l.elector, err = leader.New(leader.Config{
		Name: l.Config.Name, Priority: l.Config.Leader.Priority, Observer: !l.MayLead,
		Peers: l.electorate, Observers: l.observers, Able: l.able, Ignore: l.mayNotLead, Send: l.Peers.SendHeartbeat, Random: l.Random, OnChange: l.leads, Logger: l.Logger,
	})
	if err != nil || l.conductor == nil {
		return err
	}
	k := &l.Config.Commit
	c := commit.DefaultConfig()
	c.Name, c.Set, c.Conductor, c.Now, c.Logger = l.Config.Name, l.Set, l.conductor, l.Clock.now, l.Logger
	c.Random = l.Random
	c.Window, c.MaxWait, c.MinInterval = time.Duration(k.Window), time.Duration(k.MaxWait), time.Duration(k.MinInterval)
	c.Timeout = time.Duration(k.Timeout)
	c.MaxAddresses, c.MaxShrinkPercent = k.MaxAddresses, k.MaxShrinkPercent
	c.MaxGrowthPercent, c.GrowthFloor = k.MaxGrowthPercent, k.GrowthFloor
	c.Foreign.Remove, c.Foreign.After = k.Foreign == "remove", time.Duration(k.RemoveForeignAfter)
	c.Aggregate = l.Config.Bans.Aggregate
	c.Quorum = l.quorum.Enough()
	// A function, because leadership may end during a commit.
	c.Leading = func() bool { return l.elector.Status().Self }
	c.Ready = l.Mesh.Settled
	// Expiry removes from the tenant, and a wrong clock would remove everything.
	c.ClocksAgree = l.Clock.agrees
	c.SetWork = l.setWork
	c.StaleSessions = l.staleSessions
	c.Peers = l.committers
	c.OnEvent = l.committedEvent
	l.stall = leader.NewStall(leader.Pace{Window: c.Window, MaxWait: c.MaxWait, Interval: c.MinInterval, Timeout: c.Timeout})
	l.committer, err = commit.New(c)
	return err
}

// neverMetWait is how long a router that joins others and has never met any does
// not lead.
const neverMetWait = 5 * time.Minute

var errUnsettled = errors.New("not settled: too little has been heard of the other members")

// able says whether this member could commit now, and if not why.
func (l *lead) able() (bool, string) {
	if !l.Mesh.Settled() {
		return false, errUnsettled.Error()
	}
	// A member that is about to lead writes first: its disk may have become read-only since the last write.
	since, vacant := l.elector.Vacant()
	tried := !vacant || l.probe.triedSince(since)
	if err := l.Set.Health(); silent(err) {
		return false, err.Error()
	} else if err != nil {
		return false, fmt.Sprintf("the store cannot be written: %v", err)
	}
	if !tried {
		return false, "the store is being written to first, to see that it can be"
	}
	// Its bans may be on the other side of a wrong key or a closed port, and with
	// them another leader.
	if wait := neverMetWait - l.Clock.raw().Sub(l.Started); wait > 0 && l.Mesh.NeverMet() {
		return false, "none of those that this router joins has ever answered: it leads alone in " + wait.Round(time.Second).String()
	}
	return l.committer.Able()
}

// works translates what the committer does into what the heartbeat says. The two packages do not know each
// other.
var works = map[commit.Work]leader.State{
	commit.WorkIdle: leader.Idle, commit.WorkCommitting: leader.Committing, commit.WorkWaiting: leader.Waiting,
	commit.WorkUnable: leader.Unable,
}

func (l *lead) setWork(w commit.Work, detail string, session conductor.SessionAt, until time.Time) {
	l.elector.SetWork(works[w], detail, leader.Session(session), until)
}

// staleSessions are those of former leaders that may be killed where they hold
// the lock.
func (l *lead) staleSessions() []conductor.SessionAt {
	var stale []conductor.SessionAt
	for _, s := range l.elector.Silent(staleSession) {
		stale = append(stale, conductor.SessionAt(s))
	}
	return stale
}

// committedEvent tells what happened at the conductor to who monitors.
func (l *lead) committedEvent(e commit.Event) {
	event := control.Event{Time: control.At(e.Time), Event: "commit", Name: l.Config.Name, Add: len(e.Add), Remove: len(e.Remove), Detail: e.Detail}
	if e.Kind == commit.EventCommit {
		event.Added, event.Removed = firstNamed(e.Add), firstNamed(e.Remove)
	} else {
		event.Event, event.Error = "error", string(e.Kind)
	}
	l.Publish(event)
	l.Committed(e)
	// On a goroutine of its own: the next commit must not wait for it.
	if l.Config.Commit.CutSessions && e.Kind == commit.EventCommit && len(e.Add) > 0 {
		go l.cutSessions(e.Add)
	}
}

// firstNamed copies the prefixes that an event names, so that it does not hold a whole plan.
func firstNamed(ps []netip.Prefix) control.Prefixes {
	return slices.Clone(ps[:min(len(ps), control.MaxNamed)])
}

// cutSessions ends what the sources just banned had going on; their ban stands
// whether that succeeds or not.
func (l *lead) cutSessions(banned []netip.Prefix) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(l.Config.Commit.Timeout))
	defer cancel()
	ended, err := l.conductor.CutSessions(ctx, banned)
	if err != nil {
		l.Logger.Warn("end the live sessions of banned sources", "ended", ended, "error", err)
		return
	}
	l.Logger.Info("live sessions of banned sources ended", "sessions", ended)
}

// leads is told of each change of leader, term or eligibility.
func (l *lead) leads(s leader.Status) {
	if l.committer != nil {
		l.committer.LeaderChanged()
		if s.Leader == "" {
			l.probe.soon()
			l.committer.ProbeSoon() // a member that can lead should find out at once
		}
	}
	if s.Leader != "" {
		l.Publish(control.Event{Time: control.At(l.Clock.now()), Event: "leader", Name: s.Leader, Term: s.Term})
	}
}

// electorate are the other alive members that are configured to lead.
func (l *lead) electorate() []leader.Peer {
	var peers []leader.Peer
	for _, m := range l.Mesh.Members() {
		if m.State == gossip.Alive && m.Eligible && !m.Self && !l.Ignored(m.Name) {
			peers = append(peers, leader.Peer{Name: m.Name, Priority: m.Priority})
		}
	}
	return peers
}

// committers are the other members that are known and whose records count, by what the committer asks of them.
func (l *lead) committers() []commit.Peer {
	var peers []commit.Peer
	for _, m := range l.Mesh.Members() {
		if !m.Self && !l.Ignored(m.Name) {
			peers = append(peers, commit.Peer{
				Name: m.Name, MayLead: m.Eligible, Failed: m.State == gossip.Failed, Alive: m.State == gossip.Alive, Since: m.Since, Agreed: m.Agreed,
			})
		}
	}
	return peers
}

// observers are the alive members that are not configured to lead.
func (l *lead) observers() []string {
	var names []string
	for _, m := range l.Mesh.Members() {
		if m.State == gossip.Alive && !m.Eligible && !m.Self {
			names = append(names, m.Name)
		}
	}
	return names
}

// mayNotLead says whose word about leading counts for nothing: a member that is
// not alive, that is not configured to lead, that is blocked, or under which
// nothing was committed.
func (l *lead) mayNotLead(name string) bool {
	if name == l.Config.Name {
		return false
	}
	m, known := l.Mesh.Member(name)
	return !known || m.State != gossip.Alive || !m.Eligible || l.Ignored(name) || l.stall != nil && l.stall.Bars(name)
}

// reported takes how a member says that its commits stand.
func (l *lead) reported(from string, r peer.Report, committed bool) {
	if committed {
		l.committedElsewhere(from, r)
	}
	if lead := l.elector.Status(); l.committer != nil && lead.Leader == from && !lead.Self {
		l.committer.HeardByHand(r.RemovedByHand())
	}
}

// report tells the others how the commits stand, while this agent leads.
func (l *lead) report() {
	if lead := l.elector.Status(); lead.Self {
		now := l.Clock.now()
		l.Peers.Report(now, lead.Term, l.committer.Status(), l.committer.RemovedByHand())
	}
}

// committedElsewhere reports another member's commit to this router's monitors, so
// that every router shows the same events.
func (l *lead) committedElsewhere(leader string, r peer.Report) {
	l.Publish(control.Event{Time: control.At(l.Clock.now()), Event: "commit", Name: leader, Detail: fmt.Sprintf("%d addresses at the conductor", r.Committed)})
}

// looks is when watchStall has looked.
type looks struct {
	last  time.Time
	cost  time.Duration // of the last look
	waits bool          // something waited then
	read  time.Time     // when it last had the tenant read
}

const (
	// lookShare is the part of the time that looks may take while something waits: one in lookShare.
	lookShare = 50
	// readAgain is the time between two readings of the tenant for watchStall. The conductor has few sessions.
	readAgain = time.Minute
)

// due reports whether it is time to look, if the set last changed at a time.
func (k *looks) due(now, changed time.Time) bool {
	pause := leader.StallLook
	if k.waits || changed.After(k.last) {
		pause = min(pause, lookShare*k.cost)
	}
	return now.Sub(k.last) >= pause
}

// watchStall compares what this member sees of the commits with what the leader says, and has the election pass over a leader
// that commits nothing.
func (l *lead) watchStall(now time.Time) {
	if l.stall == nil {
		return
	}
	changed := l.committer.Changed()
	if !l.looks.due(now, changed) {
		return
	}
	l.looks.last = now
	own := l.committer.Status()
	lead := l.elector.Status()
	p := leader.Progress{Add: own.PendingAdd, Remove: own.PendingRemove, Came: changed, Told: l.Peers.Explained(now, lead.Leader)}
	for _, e := range l.Set.Placed() {
		p.Placed++
		p.Newest = max(p.Newest, int64(e.First))
	}
	l.looks.cost = time.Since(now)
	l.looks.waits = p.Add+p.Remove > 0
	if bar := l.stall.Look(now, p, lead.Leader, lead.Self, lead.Work); bar != "" {
		l.Logger.Warn("the leader commits nothing: another one may claim", "leader", bar, "add", p.Add, "remove", p.Remove)
		l.elector.Recheck()
	}
	// An address that is in the tenant already, placed by nobody, waits for nothing; the leader may have read of it first.
	if l.stall.Doubts() && now.Sub(l.looks.read) >= readAgain {
		l.looks.read = now
		l.committer.ReadSoon()
	}
}
