package mesh

import (
	"time"

	"banmesh/mesh/commit"
	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
	"banmesh/mesh/leader"
	"banmesh/mesh/peer"
)

// memberChanged is told of joins, leaves and failures, in order.
func (a *Agent) memberChanged(e gossip.MemberEvent) {
	if e.Kind == gossip.NameConflict { // joins and failures are logged where they are found out
		a.log.Error("another live member has this name: give each router its own", "name", e.Member.Name, "addr", e.Member.Addr)
	}
	if !a.ready.Load() {
		return
	}
	if e.Kind == gossip.MemberLeft {
		a.elector.MemberLeft(e.Member.Name)
	}
	if e.Kind == gossip.MemberUpdated {
		if e.Member.Self { // its address, which nobody may ban
			a.neverBan.renew()
		}
		return
	}
	if e.Kind == gossip.MemberJoined {
		a.peers.Joined(e.Member.Name)
	}
	event := control.Event{
		Time: control.At(a.clock.now()), Event: e.Kind.String(), Name: e.Member.Name, Addr: e.Member.Addr,
	}
	if e.Kind == gossip.NameConflict {
		event.Event, event.Error = "error", "another live member has this name"
	}
	a.events.publish(event)
}

// leads is told of each change of leader, term or eligibility.
func (a *Agent) leads(s leader.Status) {
	if a.committer != nil {
		a.committer.LeaderChanged()
		if s.Leader == "" {
			a.committer.ProbeSoon() // a member that can lead should find out at once
		}
	}
	if s.Leader != "" {
		a.events.publish(control.Event{Time: control.At(a.clock.now()), Event: "leader", Name: s.Leader, Term: s.Term})
	}
}

// electorate are the other alive members that are configured to lead.
func (a *Agent) electorate() []leader.Peer {
	var peers []leader.Peer
	for _, m := range a.mesh.Members() {
		if m.State == gossip.Alive && m.Eligible && !m.Self && !a.ignored(m.Name) {
			peers = append(peers, leader.Peer{Name: m.Name, Priority: m.Priority})
		}
	}
	return peers
}

// committers are the other members that are known and whose records count, by what the committer asks of them.
func (a *Agent) committers() []commit.Peer {
	var peers []commit.Peer
	for _, m := range a.mesh.Members() {
		if !m.Self && !a.ignored(m.Name) {
			peers = append(peers, commit.Peer{
				Name: m.Name, MayLead: m.Eligible, Failed: m.State == gossip.Failed, Alive: m.State == gossip.Alive, Agreed: m.Agreed,
			})
		}
	}
	return peers
}

// observers are the alive members that are not.
func (a *Agent) observers() []string {
	var names []string
	for _, m := range a.mesh.Members() {
		if m.State == gossip.Alive && !m.Eligible && !m.Self {
			names = append(names, m.Name)
		}
	}
	return names
}

// ignored says whether an operator has taken a member's say from it: what it
// writes does not count, and neither does what it tells.
func (a *Agent) ignored(name string) bool {
	return a.store.Ignores(name) && name != a.cfg.Name
}

// mayNotLead says whose word about leading counts for nothing: a member that is
// not alive, that is not configured to lead, that is blocked, or under which
// nothing was committed.
func (a *Agent) mayNotLead(name string) bool {
	if name == a.cfg.Name {
		return false
	}
	m, known := a.mesh.Member(name)
	return !known || m.State != gossip.Alive || !m.Eligible || a.ignored(name) || a.stall != nil && a.stall.bars(name)
}

// openPeers makes this router's end of what members tell each other.
func (a *Agent) openPeers() {
	a.peers = peer.New(peer.Config{
		Name: a.cfg.Name, Limits: a.cfg.Limits.Sum(), MaxDuration: time.Duration(a.cfg.Bans.MaxDuration),
		Members:       func() []gossip.Member { return a.mesh.Members() },
		Send:          func(to string, payload []byte) error { return a.mesh.Send(to, payload) },
		Trouble:       func() string { return a.fail2ban.notifier.Trouble() },
		Heartbeat:     func(from string, body []byte) { a.elector.Receive(from, body) },
		Reported:      a.reported,
		MaxDurationOf: a.store.HeardMaxDuration,
		Commit:        a.commitFor,
		Random:        a.doors.Random, Logger: a.log,
	})
}

// heard takes a message of another member. It must not block.
func (a *Agent) heard(from string, payload []byte) {
	if a.ready.Load() && !a.ignored(from) {
		a.peers.Receive(from, payload)
	}
}

// reported takes how a member says that its commits stand.
func (a *Agent) reported(from string, r peer.Report, committed bool) {
	if committed {
		a.committedElsewhere(from, r)
	}
	if lead := a.elector.Status(); a.committer != nil && lead.Leader == from && !lead.Self {
		a.committer.HeardByHand(r.RemovedByHand())
	}
}

// report tells the others how the commits stand, while this agent leads.
func (a *Agent) report() {
	if lead := a.elector.Status(); lead.Self {
		now := a.clock.now()
		a.peers.Report(now, lead.Term, a.committer.Status(), a.committer.RemovedByHand())
	}
}
