package gossip

import (
	"errors"
	"time"

	"github.com/hashicorp/memberlist"

	"banmesh/internal/random"
	"banmesh/mesh/packed"
)

// delegate receives memberlist's callbacks, partly under its node lock and partly before New has returned: nothing in here may
// block or call memberlist.
type delegate struct {
	m    *Mesh
	list uint64 // the value of Mesh.lists that its memberlist got
}

// over reports whether the calling memberlist has been replaced: its timers outlive its shutdown, and would report members as
// failed.
func (d delegate) over() bool { return d.list != d.m.lists.Load() }

var (
	// memberlist looks for these interfaces at run time; a method that no longer fits would silently not be
	// called.
	_ memberlist.Delegate         = delegate{}
	_ memberlist.EventDelegate    = delegate{}
	_ memberlist.PingDelegate     = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
	_ memberlist.AliveDelegate    = delegate{}
)

// memberlist logs it and ignores the member.
var errCrowd = errors.New("more members than a mesh has")

// NotifyAlive keeps invented members out.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	if !d.m.table.admits(n.Name, d.m.newcomers) {
		d.m.count.drop("too many members")
		return errCrowd
	}
	return nil
}

// NodeMeta is what memberlist spreads of this member beside its address.
func (d delegate) NodeMeta(limit int) []byte {
	b := nodeMeta{
		Version: d.m.cfg.Version, Eligible: d.m.cfg.Eligible,
		Priority: int64(d.m.cfg.Priority), Run: d.m.run,
	}.encode()
	if len(b) > limit {
		return nil // memberlist panics on longer member data
	}
	return b
}

// NotifyMsg drops: no member sends messages through memberlist.
func (d delegate) NotifyMsg([]byte) { d.m.count.drop("unknown channel") }

// memberlist's broadcasts would spread a ban in rounds of 100 ms; pushes are faster, see pusher.
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState is the push/pull state: stamp and name.
// It rides on memberlist's push/pull, so that two members that meet by stream compare roots without a probe.
func (d delegate) LocalState(bool) []byte {
	return encode(kindAnswer, stampMsg{From: d.m.cfg.Name, Stamp: d.m.stamp()})
}

// MergeRemoteState takes the other side's summary out of a push/pull, so that two members that just met need
// no further message to know whether their sets differ.
func (d delegate) MergeRemoteState(buf []byte, _ bool) {
	var msg stampMsg
	if len(buf) < 2 || buf[0] != frameVersion || buf[1] != kindAnswer || packed.Decode(buf[2:], 3, &msg) != nil {
		d.m.count.drop("push/pull state")
		return
	}
	s, err := decodeStamp(msg.Stamp)
	if err != nil {
		d.m.count.drop("stamp")
		return
	}
	d.m.sync.observe(msg.From, s)
}

// NotifyJoin is called with memberlist's lock held and must not call it, nor wait. The member counts even if
// its data cannot be read: it may be of a later version.
func (d delegate) NotifyJoin(n *memberlist.Node) {
	if n.Name == d.m.cfg.Name || d.over() {
		return
	}
	meta, err := decodeMeta(n.Meta)
	if err != nil {
		d.m.count.drop("member data")
	}
	d.m.memberUp(n.Name, n.Address(), meta)
}

// table.up tells the two apart.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.NotifyJoin(n) }

// NotifyLeave is called for a member that left and for one that failed; memberDown tells them apart.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	if n.Name == d.m.cfg.Name || d.over() {
		return
	}
	d.m.memberDown(n.Name)
}

// memberlist calls it for every probe, in the goroutine that reads packets.
func (d delegate) AckPayload() []byte { return d.m.stamp() }

// NotifyPingComplete takes the summary that comes with the answer to a probe: agreement is checked with each
// probe, at no cost of its own.
func (d delegate) NotifyPingComplete(other *memberlist.Node, rtt time.Duration, payload []byte) {
	s, err := decodeStamp(payload)
	if err != nil {
		if len(payload) > 0 {
			d.m.count.drop("stamp")
		}
		return
	}
	d.m.measured(other.Name, rtt, s)
	d.m.sync.observe(other.Name, s)
}

// NotifyConflict tells of a second member of one name. Only a conflict about the own name is this member's
// business.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	if existing.Name != d.m.cfg.Name {
		return
	}
	d.m.conflict(other.Address())
}

// memberUp records that memberlist considers a member alive.
func (m *Mesh) memberUp(name, addr string, meta nodeMeta) {
	kind, news, member := m.table.up(name, addr, meta, time.Now())
	if !news {
		return
	}
	m.known.changed(member)
	m.event(kind, member)
	if kind == MemberJoined {
		m.sync.joined(name)
		// The member may not know us yet. The question introduces us, and is sent twice in case one packet is lost.
		for i := range 2 {
			m.timers.after(time.Duration(i)*time.Second+random.Below(m.random, 500*time.Millisecond), func() { m.ask(name, addr) })
		}
	}
}

// memberDown records that memberlist has lost a member.
func (m *Mesh) memberDown(name string) {
	if kind, news, member := m.table.down(name, time.Now()); news {
		m.known.changed(member)
		m.event(kind, member)
	}
}

// measured records the clock difference that a stamp and its round trip show.
func (m *Mesh) measured(name string, rtt time.Duration, s stamp) {
	now := m.cfg.Now()
	skew := time.UnixMilli(s.millis).Sub(now.Add(-rtt/2)) + m.drift()
	m.table.measured(name, skew, time.Now())
	m.views.look(m, name, s.members)
}
