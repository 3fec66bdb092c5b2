package gossip

import (
	"errors"
	"slices"
	"sync"
	"time"

	"banmesh/mesh/packed"
	"banmesh/store"
)

// receive handles the frames of a queue in order of arrival. One goroutine handles those with records, since merging takes the
// set's lock anyway, and another one the rest: a merge may wait for the disk, and a member that does not hear the leader
// meanwhile would claim to lead.
func (m *Mesh) receive(queue <-chan inbound) {
	for {
		select {
		case <-m.ctx.Done():
			return
		case in := <-queue:
			m.frame(in.frame, in.from, in.run)
		}
	}
}

// ofRecords says whether a frame carries records or requests some.
func ofRecords(frame []byte) bool {
	if len(frame) < 2 {
		return false
	}
	switch frame[1] {
	case kindPush, kindRelay, kindHeads, kindPull, kindDelta:
		return true
	}
	return false
}

// refuse drops a frame.
func (m *Mesh) refuse(from, reason string) { m.wire.refuse(from, reason) }

// malformed names the error that decode found.
func malformed(err error) string {
	switch {
	case errors.Is(err, packed.ErrTrailing):
		return "trailing bytes"
	case errors.Is(err, packed.ErrShape):
		return "wrong number of fields"
	}
	return "malformed frame"
}

// frame handles one frame from a packet of any sender. run is the sender's, 0 if its packets are not counted.
func (m *Mesh) frame(b []byte, from string, run uint64) {
	if len(b) < 2 {
		m.refuse(from, "truncated frame")
		return
	}
	if b[0] != frameVersion {
		m.refuse(from, "unknown version")
		return
	}
	kind, payload := b[1], b[2:]
	switch kind {
	case kindPush:
		var msg pushMsg
		if m.read(payload, 3, &msg, &msg.From, from) {
			m.pushed(msg, from)
		}
	case kindRelay:
		var msg relayMsg
		if !m.read(payload, 6, &msg, &msg.From, from) {
			return
		}
		if len(msg.Frame) < 2 || msg.Frame[0] != frameVersion || msg.Frame[1] != kindPush {
			m.refuse(from, "relay of another kind")
			return
		}
		m.relay(msg)
		m.frame(msg.Frame, from, run)
	case kindHeads:
		var msg headsMsg
		if m.read(payload, 4, &msg, &msg.From, from) {
			m.headsTold(msg, from)
		}
	case kindPull:
		var msg pullMsg
		if m.read(payload, 2, &msg, &msg.From, from) {
			m.pulled(msg, from)
		}
	case kindDelta:
		var msg deltaMsg
		if m.read(payload, 2, &msg, &msg.From, from) {
			m.merge(msg.Chunk, from)
		}
	case kindAsk:
		var msg stampMsg
		if m.read(payload, 3, &msg, &msg.From, from) {
			m.asked(msg, from)
		}
	case kindAnswer:
		var msg stampMsg
		if m.read(payload, 3, &msg, &msg.From, from) {
			m.answered(msg, from)
		}
	case kindMessage:
		var msg messageMsg
		if m.read(payload, 2, &msg, &msg.From, from) && m.heeds(msg.From, from, run) && m.cfg.OnMessage != nil {
			m.cfg.OnMessage(msg.From, msg.Payload)
		}
	case kindLeaving:
		var msg leavingMsg
		if !m.read(payload, 2, &msg, &msg.From, from) {
			return
		}
		if news, member := m.table.leaving(msg.From, msg.Run, time.Now()); news {
			m.known.changed(member)
			m.event(MemberLeft, member)
		}
	default:
		m.refuse(from, "unknown kind")
	}
}

// read decodes a payload and checks the sender's name in it.
func (m *Mesh) read(payload []byte, fields int, msg any, sender *string, from string) bool {
	if err := packed.Decode(payload, fields, msg); err != nil {
		m.refuse(from, malformed(err))
		return false
	}
	if checkName(*sender) != nil {
		m.refuse(from, "sender's name")
		return false
	}
	now := time.Now()
	m.table.with(*sender, func(p *peer) {
		p.seen = now
		if p.addr == from { // never true for a stream
			p.packet = now
		}
	})
	return true
}

// heeds says whether a message in the name of a member counts: the member is alive, and the packet is of its present run.
// Records need no such check, because they mean the same whenever they arrive.
func (m *Mesh) heeds(name, from string, run uint64) bool {
	reason := m.table.heeds(name, run, m.ring != nil && runCounts(m.run))
	if reason == "" {
		return true
	}
	m.refuse(from, reason)
	m.introduce(name, from)
	return false
}

// replyAddr is where the sender is answered: at its known address, otherwise at the address that the packet came from.
func (m *Mesh) replyAddr(name, from string) string {
	if addr, ok := m.table.addr(name); ok {
		return addr
	}
	return from
}

// pushed takes records in and, if some before them are missing, waits for a moment before it asks: they are
// often just behind, by another relay.
func (m *Mesh) pushed(msg pushMsg, from string) {
	merged, ok := m.merge(msg.Chunk, from)
	if !ok {
		return
	}
	m.recent.note(merged.Log, msg.Seq)
	if !m.set.Holds(merged.Log, msg.Seq) {
		m.missing(gap{log: merged.Log, seq: msg.Seq, from: msg.From, addr: m.replyAddr(msg.From, from)}, m.tune.PullGrace)
	}
}

// merge is the one way of others' records into the store. What the store cannot decode is counted against the
// host it came from.
func (m *Mesh) merge(chunk []byte, from string) (store.Merged, bool) {
	merged, err := m.set.Merge(chunk)
	if err != nil {
		reason := "records"
		var we *store.WireError
		if errors.As(err, &we) {
			reason = "records: " + we.Reason
		}
		m.refuse(from, reason)
		return merged, false
	}
	m.count.merged.Add(uint64(merged.New))
	m.count.refused.Add(uint64(merged.Refused + merged.Unreadable))
	return merged, true
}

// headsTold asks at once for what a head shows to be missing: the push that brought it is lost, or it would
// be here.
func (m *Mesh) headsTold(msg headsMsg, from string) {
	if len(msg.Heads) > maxHeads {
		m.refuse(from, "too many heads")
		return
	}
	addr := m.replyAddr(msg.From, from)
	for _, h := range msg.Heads {
		if checkName(h.Origin) != nil {
			m.refuse(from, "origin's name")
			continue
		}
		id := store.LogID{Origin: h.Origin, Epoch: h.Epoch}
		if !m.set.Holds(id, h.Seq) {
			m.missing(gap{log: id, seq: h.Seq, from: msg.From, addr: addr, bulk: msg.Bulk}, 0)
		}
	}
	if msg.Reply {
		m.announceRecent(addr, false)
	}
}

// recentHeads remembers which logs grew in the last half minute: they are the most likely reason if roots differ.
type recentHeads struct {
	mu    sync.Mutex
	heads map[store.LogID]recentHead
}

// recentHead is how far a log was pushed lately. Where two sets differ, telling these usually repairs it
// without an exchange.
type recentHead struct {
	seq uint64
	at  time.Time
}

const (
	recentFor  = 30 * time.Second
	maxRecents = 256
)

// note leaves logs beyond maxRecents out; the root shows what is missing of those.
func (r *recentHeads) note(log store.LogID, seq uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heads == nil {
		r.heads = make(map[store.LogID]recentHead)
	}
	h, ok := r.heads[log]
	if !ok && len(r.heads) >= maxRecents {
		return
	}
	r.heads[log] = recentHead{max(h.seq, seq), time.Now()}
}

func (r *recentHeads) expire(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for log, h := range r.heads {
		if now.Sub(h.at) > recentFor {
			delete(r.heads, log)
		}
	}
}

// newest picks at most maxHeads heads that this member holds itself, the newest first.
func (r *recentHeads) newest(holds func(store.LogID, uint64) bool) []headMsg {
	type entry struct {
		headMsg
		at time.Time
	}
	r.mu.Lock()
	all := make([]entry, 0, len(r.heads))
	for log, h := range r.heads {
		all = append(all, entry{headMsg{Origin: log.Origin, Epoch: log.Epoch, Seq: h.seq}, h.at})
	}
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b entry) int { return b.at.Compare(a.at) })
	var out []headMsg
	for _, e := range all[:min(len(all), maxHeads)] {
		if holds(store.LogID{Origin: e.Origin, Epoch: e.Epoch}, e.Seq) {
			out = append(out, e.headMsg)
		}
	}
	return out
}

// announceRecent tells a member which logs grew lately, and requests the same.
func (m *Mesh) announceRecent(addr string, reply bool) {
	var heads []headMsg
	if own := m.set.Head(); own.Seq > 0 {
		heads = append(heads, headMsg{Origin: own.Log.Origin, Epoch: own.Log.Epoch, Seq: own.Seq})
	}
	heads = append(heads, m.recent.newest(m.set.Holds)...)
	heads = heads[:min(len(heads), maxHeads)]
	if len(heads) == 0 && !reply {
		return
	}
	_ = m.sendTo(addr, encode(kindHeads, headsMsg{From: m.cfg.Name, Heads: heads, Reply: reply}))
}
