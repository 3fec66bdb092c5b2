package mesh

import (
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
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
		a.lead.elector.MemberLeft(e.Member.Name)
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

// ignored says whether an operator has taken a member's say from it: what it
// writes does not count, and neither does what it tells.
func (a *Agent) ignored(name string) bool {
	return a.store.Ignores(name) && name != a.cfg.Name
}

// openPeers makes this router's end of what members tell each other.
func (a *Agent) openPeers() {
	a.peers = peer.New(peer.Config{
		Name: a.cfg.Name, Limits: a.cfg.Limits.Sum(), MaxDuration: time.Duration(a.cfg.Bans.MaxDuration),
		Members:       func() []gossip.Member { return a.mesh.Members() },
		Send:          func(to string, payload []byte) error { return a.mesh.Send(to, payload) },
		Trouble:       func() string { return a.fail2ban.notifier.Trouble() },
		Heartbeat:     func(from string, body []byte) { a.lead.elector.Receive(from, body) },
		Reported:      a.lead.reported,
		MaxDurationOf: a.store.HeardMaxDuration,
		Commit:        a.lead.commitFor,
		Random:        a.doors.Random, Logger: a.log,
	})
}

// heard takes a message of another member. It must not block.
func (a *Agent) heard(from string, payload []byte) {
	if a.ready.Load() && !a.ignored(from) {
		a.peers.Receive(from, payload)
	}
}
