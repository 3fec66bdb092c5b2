package mesh

import (
	"time"

	"banmesh/mesh/commit"
	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
	"banmesh/mesh/leader"
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
			select {
			case a.neverBan.wake <- struct{}{}:
			default:
			}
		}
		return
	}
	if e.Kind == gossip.MemberJoined {
		a.sendLimitsTo(e.Member.Name)
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

func (a *Agent) sendHeartbeat(to string, payload []byte) error {
	return a.mesh.Send(to, append([]byte{messageLeader}, payload...))
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

// heard takes a message of another member. It must not block.
func (a *Agent) heard(from string, payload []byte) {
	if !a.ready.Load() || len(payload) == 0 || a.ignored(from) {
		return
	}
	kind, body := payload[0], payload[1:]
	var err error
	switch kind {
	case messageLeader:
		a.elector.Receive(from, body)
	case messageReport:
		var r report
		if err = decodeMessage(body, reportFields, &r); err == nil {
			if a.reports.heard(from, r) {
				a.committedElsewhere(from, r)
			}
			if lead := a.elector.Status(); a.committer != nil && lead.Leader == from && !lead.Self {
				a.committer.HeardByHand(r.byHand())
			}
		}
	case messageForward:
		var ask forwardRequest
		if err = decodeMessage(body, forwardFields, &ask); err == nil {
			a.forwarded.asked(from, ask)
		}
	case messageLimits:
		var l limitsMessage
		if err = decodeMessage(body, limitsFields, &l); err == nil {
			a.otherLimits.heard(from, l.Sum)
		}
	case messageLife:
		var l lifeMessage
		if err = decodeMessage(body, lifeFields, &l); err == nil {
			a.heardLife(from, l)
		}
	case messageUnnotified:
		var u unnotifiedMessage
		if err = decodeMessage(body, unnotifiedFields, &u); err == nil {
			a.unnotified.heard(from, u.Why)
		}
	case messageResult:
		var o forwardResult
		if err = decodeMessage(body, resultFields, &o); err == nil {
			a.forwarded.answered(o)
		}
	}
	if err != nil {
		a.log.Debug("message dropped", "from", from, "error", err)
	}
}

// sendReport tells the others how the commits stand, while this agent leads.
func (a *Agent) sendReport() {
	lead := a.elector.Status()
	if !lead.Self {
		return
	}
	now := a.clock.now()
	s := a.committer.Status()
	r := newReport(lead.Term, s, a.reports.note(now, s), a.committer.RemovedByHand())
	a.reports.heard(a.cfg.Name, r)
	if !a.reports.due(time.Now(), r) {
		return
	}
	message, err := encodeMessage(messageReport, &r)
	if err != nil {
		a.log.Error("report of the commits", "error", err)
		return
	}
	for _, m := range a.mesh.Members() {
		if m.State == gossip.Alive && !m.Self {
			_ = a.mesh.Send(m.Name, message) // the next one comes in seconds
		}
	}
}
