package gossip

import (
	"sync"
	"time"
)

// asks are requests for a stamp that wait for their answer.
// A nonce ties an answer to its question: a recorded answer would set the measured clock back, and its root would look like
// agreement.
type asks struct {
	mu   sync.Mutex
	last uint32
	open map[uint32]asking
}

// asking is a question under way: whom it was put to, since another member's answer must not count as that
// one's, and when.
type asking struct {
	name string
	at   time.Time
}

// Four a second for ten seconds, with room for the questions after pushes.
const maxAsks = 1024

// add returns the number that the answer must bear, or false if too many questions are open.
func (a *asks) add(name string) (nonce uint32, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.open) >= maxAsks {
		return 0, false
	}
	if a.open == nil {
		a.open = make(map[uint32]asking)
	}
	a.last++
	a.open[a.last] = asking{name, time.Now()}
	return a.last, true
}

// take returns how long the answer took. Each counts once: a second one with the same number is a replay.
func (a *asks) take(nonce uint32, name string) (time.Duration, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	q, ok := a.open[nonce]
	if !ok || q.name != name {
		return 0, false
	}
	delete(a.open, nonce)
	return time.Since(q.at), true
}

func (a *asks) expire(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for nonce, q := range a.open {
		// A later answer measures the round trip badly.
		if now.Sub(q.at) > 10*time.Second {
			delete(a.open, nonce)
		}
	}
}

// ask asks a member for its stamp and sends the own one.
func (m *Mesh) ask(name, addr string) {
	nonce, ok := m.asks.add(name)
	if !ok {
		m.count.drop("too many questions")
		return
	}
	m.table.probed(name)
	_ = m.sendTo(addr, encode(kindAsk, stampMsg{From: m.cfg.Name, Nonce: nonce, Stamp: m.stamp()}))
}

// asked answers a member that tells its summary and wants this one's.
func (m *Mesh) asked(msg stampMsg, from string) {
	s, err := decodeStamp(msg.Stamp)
	if err != nil {
		m.refuse(from, "stamp")
		return
	}
	if _, known := m.table.addr(msg.From); !known {
		m.introduce(msg.From, from)
	}
	_ = m.sendTo(m.replyAddr(msg.From, from), encode(kindAnswer, stampMsg{From: m.cfg.Name, Nonce: msg.Nonce, Stamp: m.stamp()}))
	// The other side pursues a difference itself: it sees ours in the answer.
	// Only agreement is noted: acting on a difference at both ends would start two exchanges about the same thing.
	if m.set.Root(s.minute) == s.root {
		m.sync.observe(msg.From, s)
	}
}

// answered takes the summary of a member that was asked for it, and the round trip, by which the difference
// of the clocks is measured.
func (m *Mesh) answered(msg stampMsg, from string) {
	s, err := decodeStamp(msg.Stamp)
	if err != nil {
		m.refuse(from, "stamp")
		return
	}
	rtt, ok := m.asks.take(msg.Nonce, msg.From)
	if !ok {
		m.count.drop("answer never asked for")
		return
	}
	m.measured(msg.From, rtt, s)
	m.sync.observe(msg.From, s)
}
