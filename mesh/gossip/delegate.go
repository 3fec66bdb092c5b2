package gossip

import (
	"errors"
	"time"

	"github.com/hashicorp/memberlist"

	"banmesh/internal/random"
	"banmesh/mesh/packed"
)

// delegate is what memberlist calls, partly with its node lock held and partly
// before New has returned: nothing in here blocks or calls memberlist.
type delegate struct {
	m    *Mesh
	list uint64 // which of Mesh.lists calls
}

// over reports whether the caller has been replaced: the timers of a memberlist
// outlive its shutdown, and would say of members that they failed.
func (d delegate) over() bool { return d.list != d.m.lists.Load() }

var (
	_ memberlist.Delegate         = delegate{}
	_ memberlist.EventDelegate    = delegate{}
	_ memberlist.PingDelegate     = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
	_ memberlist.AliveDelegate    = delegate{}
)

var errCrowd = errors.New("more members than a mesh has")

// NotifyAlive keeps made-up members out.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	if !d.m.table.admits(n.Name, d.m.newcomers) {
		d.m.count.drop("too many members")
		return errCrowd
	}
	return nil
}

func (d delegate) NodeMeta(limit int) []byte {
	b := nodeMeta{
		Version: d.m.cfg.Version, Eligible: d.m.cfg.Eligible,
		Priority: int64(d.m.cfg.Priority), Run: d.m.run,
	}.encode()
	if len(b) > limit {
		return nil // memberlist panics on more
	}
	return b
}

// NotifyMsg: no member sends through memberlist.
func (d delegate) NotifyMsg([]byte) { d.m.count.drop("unknown channel") }

func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState is the push/pull state: the stamp and the name.
func (d delegate) LocalState(bool) []byte {
	return encode(kindAnswer, stampMsg{From: d.m.cfg.Name, Stamp: d.m.stamp()})
}

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

func (d delegate) NotifyUpdate(n *memberlist.Node) { d.NotifyJoin(n) }

func (d delegate) NotifyLeave(n *memberlist.Node) {
	if n.Name == d.m.cfg.Name || d.over() {
		return
	}
	d.m.memberDown(n.Name)
}

func (d delegate) AckPayload() []byte { return d.m.stamp() }

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

func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	if existing.Name != d.m.cfg.Name {
		return
	}
	d.m.conflict(other.Address())
}

// memberUp takes in that memberlist has a member alive.
func (m *Mesh) memberUp(name, addr string, meta nodeMeta) {
	kind, news, member := m.table.up(name, addr, meta, time.Now())
	if !news {
		return
	}
	m.known.changed(member)
	m.event(kind, member)
	if kind == MemberJoined {
		m.sync.joined(name)
		// It may not know us yet: asking it is an introduction, and twice is for the
		// packet that is lost.
		for i := range 2 {
			m.timers.after(time.Duration(i)*time.Second+random.Below(m.random, 500*time.Millisecond), func() { m.ask(name, addr) })
		}
	}
}

// memberDown takes in that memberlist has lost a member.
func (m *Mesh) memberDown(name string) {
	if kind, news, member := m.table.down(name, time.Now()); news {
		m.known.changed(member)
		m.event(kind, member)
	}
}

// measured keeps the clock difference that a stamp and its round trip show.
func (m *Mesh) measured(name string, rtt time.Duration, s stamp) {
	now := m.cfg.Now()
	skew := time.UnixMilli(s.millis).Sub(now.Add(-rtt/2)) + m.drift()
	m.table.measured(name, skew, time.Now())
	m.views.look(m, name, s.members)
}
