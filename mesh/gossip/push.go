package gossip

import (
	"math"
	"slices"
	"time"

	"banmesh/store"
)

// pusher sends what the own log gains. A frame leaves at once if none is being sent. Records that arrive while one is sent, or
// within CoalesceGap of one that was not full, join the next. There is no queue: the log itself holds what is pending.
// Only records of this member's own log are pushed. What other members wrote reaches everybody by their own pushes, and is
// otherwise anti-entropy's work: a set that is merged from a stream must not be sent on as N times as many packets.
type pusher struct {
	m      *Mesh
	wake   chan struct{}
	pace   *pace
	relays *pace // paces what is relayed for others

	// owned by loop
	sent    uint64
	pushed  time.Time // when the last frame was sent
	bulk    bool      // some records were left to anti-entropy since the last calm
	nudged  time.Time // when the others were last told so
	next    time.Time // a frame that is not full leaves no earlier
	repeats [2]time.Time
}

// newPusher gives relaying a pace of its own: what others ask this member to pass on must not delay its own
// bans.
func newPusher(m *Mesh) *pusher {
	return &pusher{
		m: m, wake: make(chan struct{}, 1),
		pace:   newPace(m.tune.PacketRate, m.tune.PacketBurst),
		relays: newPace(m.tune.PacketRate, m.tune.PacketBurst),
	}
}

// announce says that the own log has grown. It never blocks, and several calls before the loop looks are one.
func (p *pusher) announce() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// loop owns the pusher's state. Nothing is queued: the own log itself is what is pending, from p.sent to its
// head.
func (p *pusher) loop() {
	// Records from before the start, if any, are left to anti-entropy.
	p.sent = p.m.set.Head().Seq
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(p.untilRepeat())
		select {
		case <-p.m.ctx.Done():
			return
		// The channel holds one: several records wake the loop once, and flush reads how far the log is by itself.
		case <-p.wake:
			if !p.flush() {
				return
			}
		case <-timer.C:
			p.repeat()
		}
	}
}

// flush sends until nothing is pending. It returns false if the mesh is shut down.
func (p *pusher) flush() bool {
	began := time.Now() // roughly when the oldest unsent record was written
	for {
		head := p.m.set.Head()
		if p.sent >= head.Seq {
			return true
		}
		if !p.sleep(time.Until(p.next)) {
			return false
		}
		others := p.m.table.receivers(p.m.tune.DirectMax)
		if len(others) == 0 {
			p.sent = head.Seq // members that join compare roots instead
			return true
		}
		limit := p.m.maxChunk()
		chunk, last := p.m.set.Since(p.sent, limit)
		if last <= p.sent {
			return true
		}
		// One record alone is longer than a packet. The store bounds records so that this cannot happen with today's limits.
		if len(chunk) > limit {
			p.m.count.drop("record too long for a packet")
			p.sent = last
			p.leave(head)
			continue
		}
		if wait := p.pace.take(p.m.fanOut(len(others))); wait > 0 {
			if time.Since(began)+wait > p.m.tune.PaceWait {
				p.m.count.drop("left to the exchange")
				p.sent = head.Seq
				p.leave(head)
				return true
			}
			if !p.sleep(wait) {
				return false
			}
			// Nothing was taken from the bucket yet: the next turn asks again, and includes what arrived meanwhile.
			continue
		}
		p.m.spread(encode(kindPush, pushMsg{From: p.m.cfg.Name, Seq: last, Chunk: chunk}), others)
		p.m.count.sentChunk(chunk)
		p.sent = last
		now := time.Now()
		if last >= p.m.set.Head().Seq {
			began = now
		}
		p.pushed, p.next = now, now
		// A nearly full frame means that more is pending, and waiting would only add delay.
		if len(chunk) < limit*3/4 {
			p.next = now.Add(p.m.tune.CoalesceGap)
		}
		for i, d := range p.m.tune.Reannounce {
			p.repeats[i] = now.Add(d)
		}
	}
}

// leave leaves records to anti-entropy and says so, so that nobody waits for a probe to notice.
func (p *pusher) leave(head store.Head) {
	p.bulk = true
	now := time.Now()
	for i, d := range p.m.tune.Reannounce {
		p.repeats[i] = now.Add(d)
	}
	if now.Sub(p.nudged) < p.m.tune.Reannounce[0]/2 {
		return // the repeated heads will say so
	}
	p.nudged = now
	p.tell(head, p.m.table.receivers(p.m.tune.DirectMax))
}

// tell sends the head.
func (p *pusher) tell(head store.Head, to []target) {
	if head.Seq == 0 || len(to) == 0 {
		return
	}
	b := p.m.wire.envelope(encode(kindHeads, headsMsg{
		From:  p.m.cfg.Name,
		Heads: []headMsg{{Origin: head.Log.Origin, Epoch: head.Log.Epoch, Seq: head.Seq}},
		Bulk:  p.bulk,
	}))
	for _, t := range to {
		_ = p.m.send(t.addr, b)
	}
}

// untilRepeat returns when the head is to be sent again, an hour if not at all.
func (p *pusher) untilRepeat() time.Duration {
	d := time.Hour
	for _, at := range p.repeats {
		if !at.IsZero() {
			d = min(d, max(0, time.Until(at)))
		}
	}
	return d
}

// repeat makes good what was lost of a push. First it asks the others what they hold: the answer shows who lacks the push, and is
// then told the head, and none shows who is behind a closed UDP port. Then it sends the head again to those that have not been
// seen to hold the same. In a large mesh both go to √N members only: sending to all would cost as much as the ban, and a member
// that misses it learns of the difference at a probe. After a burst all are told the head each time, but no further members are
// asked: their answers would all come at once, and each lost one would cause an exchange.
func (p *pusher) repeat() {
	now := time.Now()
	due := false
	for i, at := range p.repeats {
		if !at.IsZero() && !now.Before(at) {
			p.repeats[i], due = time.Time{}, true
		}
	}
	if !due {
		return
	}
	others := p.m.table.receivers(p.m.tune.DirectMax)
	some := others
	if len(others)+1 > p.m.tune.DirectMax {
		some = p.m.sample(others, int(math.Sqrt(float64(len(others)))))
	}
	first := !p.repeats[1].IsZero()
	switch {
	case p.bulk:
		p.tell(p.m.set.Head(), others)
	case !first:
		p.tell(p.m.set.Head(), p.m.table.behind(some, p.pushed))
	}
	if first {
		p.m.sync.confirm(some)
	} else {
		p.bulk = false
	}
}

// sleep returns false when the mesh ends.
func (p *pusher) sleep(d time.Duration) bool {
	if d <= 0 {
		return p.m.ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.m.ctx.Done():
		return false
	}
}

// sample draws n targets without repetition; all is left as it is, because the table shares it.
func (m *Mesh) sample(all []target, n int) []target {
	if n >= len(all) {
		return all
	}
	out := slices.Clone(all)
	m.random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:n]
}

// maxChunk is the room for records in a push that may be relayed.
func (m *Mesh) maxChunk() int {
	// Header, array, name, sequence number, and the length of the chunk as msgpack writes them; the relay's envelope goes
	// around the whole push.
	push := 2 + 1 + 2 + len(m.cfg.Name) + 9 + 3
	relay := 2 + 1 + 2 + len(m.cfg.Name) + 3*5 + 1 + relaysPerSlice*5 + 3
	return maxFrame - push - relay
}

// Two, so that a lost packet or a relay that has just died does not cut off a slice.
const relaysPerSlice = 2

// sliceCount is the number of slices into which n others are dealt: √N slices of √N members make both hops cost about the same.
func sliceCount(n int) int { return max(1, int(math.Round(math.Sqrt(float64(n))))) }

// fanOut is about how many packets one push costs its sender.
func (m *Mesh) fanOut(others int) int {
	if others+1 <= m.tune.DirectMax {
		return others
	}
	return min(others, relaysPerSlice*sliceCount(others))
}

// spread sends a push frame to all others: straight to each up to DirectMax members, above that through two relays in each of
// √N slices. A hash of the name decides who is in which slice, so that no list has to travel, and a relay also serves members
// that the sender does not know yet.
func (m *Mesh) spread(frame []byte, others []target) {
	m.count.pushes.Add(1)
	if len(others)+1 <= m.tune.DirectMax {
		b := m.wire.envelope(frame)
		for _, t := range others {
			_ = m.send(t.addr, b)
		}
		return
	}
	// Another salt deals other slices: a member that relays badly, or lies, harms another slice with each push.
	salt := m.random.Uint32()
	n := sliceCount(len(others))
	parts := make([][]target, n)
	for _, t := range others {
		i := int(nameHash(t.name, salt) % uint32(n))
		parts[i] = append(parts[i], t)
	}
	var plain *envelope
	for i, part := range parts {
		m.random.Shuffle(len(part), func(a, b int) { part[a], part[b] = part[b], part[a] })
		if len(part) <= relaysPerSlice {
			if plain == nil {
				plain = m.wire.envelope(frame)
			}
			for _, t := range part {
				_ = m.send(t.addr, plain)
			}
			continue
		}
		msg := relayMsg{From: m.cfg.Name, Slices: uint32(n), Slice: uint32(i), Salt: salt, Frame: frame}
		for _, t := range part[:relaysPerSlice] {
			msg.Relays = append(msg.Relays, nameHash(t.name, salt))
		}
		f := encode(kindRelay, msg)
		if len(f) > maxFrame {
			m.count.drop("frame too long")
			continue
		}
		b := m.wire.envelope(f)
		for _, t := range part[:relaysPerSlice] {
			_ = m.send(t.addr, b)
		}
	}
}

// relay passes a push on to the members of its own slice.
func (m *Mesh) relay(msg relayMsg) {
	// What an honest sender of the largest mesh allowed would never exceed; anything else would let one packet cause
	// thousands.
	if msg.Slices == 0 || msg.Slices > 1024 || msg.Slice >= msg.Slices || len(msg.Relays) > 8 {
		m.count.drop("relay shape")
		return
	}
	var to []target
	for _, t := range m.table.others() {
		h := nameHash(t.name, msg.Salt)
		if t.name != msg.From && h%msg.Slices == msg.Slice && !slices.Contains(msg.Relays, h) {
			to = append(to, t)
		}
	}
	if len(to) == 0 {
		return
	}
	// A pace apart from the own pushes: a flood from one member must neither use up this router's uplink nor delay its own
	// bans.
	if m.push.relays.take(len(to)) > 0 {
		m.count.drop("relay over pace")
		return
	}
	m.count.relays.Add(1)
	b := m.wire.envelope(msg.Frame)
	for _, t := range to {
		_ = m.send(t.addr, b)
	}
}
