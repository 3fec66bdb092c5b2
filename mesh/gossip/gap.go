package gossip

import (
	"sync"
	"time"

	"banmesh/internal/random"
	"banmesh/store"
)

// gap is a log that this member does not hold up to seq, and the member that does.
type gap struct {
	log   store.LogID
	seq   uint64
	from  string
	addr  string
	bulk  bool // too much to pull by packets
	tries int
}

// One gap a log: several lost packets of one author are filled by one pull.
type gaps struct {
	mu   sync.Mutex
	open map[store.LogID]*gap
}

const (
	// maxGaps bounds the gaps remembered; the root shows any others.
	maxGaps = 1024
	// maxPullFrames is what one pull by packets may bring.
	// About 11 KB, less than the handshake and digests of a stream cost; more is a burst and belongs into an exchange.
	maxPullFrames = 8
	// Longer than a round trip on any path that carries bans in time.
	pullAgain = 250 * time.Millisecond
)

// missing records a gap and has it filled after the given delay.
func (m *Mesh) missing(g gap, grace time.Duration) {
	m.gaps.mu.Lock()
	if have := m.gaps.open[g.log]; have != nil {
		have.seq = max(have.seq, g.seq)
		// The newest informant is the most likely to be alive.
		have.from, have.addr = g.from, g.addr
		have.bulk = have.bulk || g.bulk
		m.gaps.mu.Unlock()
		return
	}
	if len(m.gaps.open) >= maxGaps {
		m.gaps.mu.Unlock()
		m.count.drop("too many gaps")
		return
	}
	if m.gaps.open == nil {
		m.gaps.open = make(map[store.LogID]*gap)
	}
	m.gaps.open[g.log] = &g
	m.gaps.mu.Unlock()
	// Many members may have the same gap: the random delay keeps them from asking at the same moment.
	if !m.timers.after(grace+random.Below(m.random, 10*time.Millisecond), func() { m.fill(g.log) }) {
		m.forgetGap(g.log)
	}
}

// forgetGap is called when the log is complete, when an exchange takes over, and when the mesh ends.
func (m *Mesh) forgetGap(log store.LogID) {
	m.gaps.mu.Lock()
	delete(m.gaps.open, log)
	m.gaps.mu.Unlock()
}

// fill requests what a gap lacks: twice by packets, then by an exchange.
func (m *Mesh) fill(log store.LogID) {
	m.gaps.mu.Lock()
	have := m.gaps.open[log]
	if have == nil {
		m.gaps.mu.Unlock()
		return
	}
	have.tries++
	g := *have
	m.gaps.mu.Unlock()
	// Usually the missing push has arrived meanwhile.
	if m.set.Holds(g.log, g.seq) {
		m.forgetGap(log)
		return
	}
	if !g.bulk && g.tries <= 2 {
		f := encode(kindPull, pullMsg{From: m.cfg.Name, Digest: m.set.DigestOf(m.minute(), g.log)})
		if len(f) <= maxFrame {
			m.count.pulls.Add(1)
			_ = m.sendTo(g.addr, f)
			if m.timers.after(m.jitter(pullAgain), func() { m.fill(log) }) {
				return
			}
		}
	}
	m.forgetGap(log)
	if g.bulk || m.sync.due(g.from) { // otherwise it is a record that this member refuses every time
		m.sync.want(g.from, 0)
	}
}

// pulled answers a pull with at most maxPullFrames frames.
func (m *Mesh) pulled(msg pullMsg, from string) {
	addr := m.replyAddr(msg.From, from)
	sent := 0
	for chunk, err := range m.set.Deltas(msg.Digest, m.maxChunk()) {
		if err != nil {
			m.refuse(from, "digest")
			return
		}
		f := encode(kindDelta, deltaMsg{From: m.cfg.Name, Chunk: chunk})
		// The pace is the relays': a forged pull could otherwise have one small packet answered by eight large ones.
		if len(f) > maxFrame || sent == maxPullFrames || m.push.relays.take(1) > 0 {
			return // the second pull fails too, and then an exchange brings it
		}
		_ = m.sendTo(addr, f)
		m.count.sentChunk(chunk)
		sent++
	}
}
