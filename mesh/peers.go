package mesh

import (
	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
)

// memberChanged is told of joins, leaves and failures, in order.
func (a *Agent) memberChanged(e gossip.MemberEvent) {
	if e.Kind == gossip.NameConflict { // joins and failures are logged where they are found out
		a.log.Error("another live member has this name: give each router its own", "name", e.Member.Name, "addr", e.Member.Addr)
	}
	if !a.life.ready.Load() {
		return
	}
	// A leader that left is followed at once instead of after its silence.
	if e.Kind == gossip.MemberLeft {
		a.lead.elector.MemberLeft(e.Member.Name)
	}
	if e.Kind == gossip.MemberUpdated {
		if e.Member.Self { // its address, which nobody may ban
			a.neverBan.Renew()
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
	a.watchers.events.Publish(event)
}

// ignored says whether an operator has taken a member's say from it: what it
// writes does not count, and neither does what it tells.
func (a *Agent) ignored(name string) bool {
	return a.store.Ignores(name) && name != a.cfg.Name
}

// heard takes a message of another member. It must not block.
func (a *Agent) heard(from string, payload []byte) {
	if a.life.ready.Load() && !a.ignored(from) {
		a.peers.Receive(from, payload)
	}
}
