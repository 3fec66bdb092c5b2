package gossip

import (
	"encoding/binary"
	"sync"
	"time"
)

// A recorded packet is as well sealed as a fresh one. To keep it from being replayed, the sealed part begins with the sender's
// run and a counter, and each member keeps a window of the counters it has seen for each run. A member that counts announces it
// by an even run in its member data; members of earlier versions get packets in their old form.
const (
	chanCounted = 0x10 // added to the channel
	countedHead = 8 + 8

	// windowSize is how far behind the newest counter a packet may come: there is one counter for all destinations, and packets
	// to a thousand members may overtake each other on the way.
	windowSize = 4096
	// maxWindows bounds the remembered runs: 560 bytes each, twice that if a counter is ahead of the time, for each address
	// (maxSides).
	maxWindows = 4096

	// minuteBits is the part of a counter that numbers the packets of one minute.
	minuteBits = 26
)

// counts says whether the member sends and expects counted packets.
func (m nodeMeta) counts() bool { return runCounts(m.Run) }

func runCounts(run uint64) bool { return run != 0 && run&1 == 0 }

// packetCounter numbers the packets of one run.
type packetCounter struct {
	mu   sync.Mutex
	last uint64
}

// next jumps ahead once a minute: a virtual machine restored to an earlier state of its memory must not look like its own
// replay.
func (c *packetCounter) next(now time.Time) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last+1, counterAt(now))
	return c.last
}

func counterAt(now time.Time) uint64 { return uint64(max(now.Unix()/60, 0)) << minuteBits }

// mostCounter is above all counters of members whose clocks are at most a minute ahead.
func mostCounter(now time.Time) uint64 { return counterAt(now.Add(2 * time.Minute)) }

// replays holds the windows.
type replays struct {
	mu   sync.Mutex
	runs map[uint64]*windows
}

// windows are those of one run, by the address that its packets come from: one for each address at which a member of that run
// lives, usually a single one, and one ("") for all other addresses. Any member can send counters in another's name; that must
// not make the other's own packets look old.
type windows struct {
	from map[string]*side
	used time.Time
}

// maxSides bounds the windows of one run: a run belongs to one member, unless somebody invents members that claim it as well.
const maxSides = 4

// side holds the windows of one address. A counter beyond what the time permits is tracked apart: it must not make everything
// that follows look old for good. Members whose clock is ahead are still heard.
type side struct {
	due   window
	ahead *window // nil until a counter was ahead of the time
}

// window remembers which packets of one sender's run were seen, as IPsec does (RFC 4303 section 3.4.3): older
// ones than the window holds are dropped.
type window struct {
	newest uint64
	seen   [windowSize / 64]uint64 // by counter modulo windowSize
}

// fresh reports whether the packet is new, and remembers it. home is its address if a member of that run lives there, otherwise
// "". most is the highest counter that the time permits.
func (r *replays) fresh(run, counter uint64, home string, most uint64, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.runs[run]
	if w == nil {
		if r.runs == nil {
			r.runs = make(map[uint64]*windows)
		}
		if len(r.runs) >= maxWindows {
			r.evict()
		}
		w = &windows{from: make(map[string]*side)}
		r.runs[run] = w
	}
	w.used = now
	s := w.from[home]
	if s == nil && len(w.from) >= maxSides {
		home, s = "", w.from[""]
	}
	if home == "" {
		// A replayed packet may come from any address, so one from elsewhere must be newer than everything that has come from
		// home. The reverse does not hold: counters can be guessed, and a forger who sends the next ones first from elsewhere
		// would have the member's own packets taken for replays. The price: an attacker who can hold back a packet may have it
		// heard twice.
		for _, other := range w.from {
			if other != s && (other.has(counter) || other.old(counter)) {
				return false
			}
		}
	}
	if s == nil {
		s = &side{}
		if len(w.from) > 0 && counter > 0 {
			// Before the member was known to live there, its packets were heard as from elsewhere: those are old.
			s.due = usedUp(min(counter-1, most))
			if counter > most {
				ahead := usedUp(counter - 1)
				s.ahead = &ahead
			}
		}
		w.from[home] = s
	}
	return s.take(counter, most)
}

// take reports whether the counter is new, and marks it.
func (s *side) take(counter, most uint64) bool {
	if s.due.newest > most { // the clock that permitted it has since been corrected
		if s.ahead == nil || s.ahead.newest < s.due.newest {
			due := s.due
			s.ahead = &due
		}
		s.due = usedUp(most)
	}
	if counter <= most {
		return !(s.ahead != nil && s.ahead.has(counter)) && s.due.take(counter)
	}
	if s.ahead == nil {
		s.ahead = &window{}
	}
	if !s.ahead.take(counter) {
		return false
	}
	// A counter that is ahead now must be too old for a replay once its time comes. A false counter can thereby deafen a member
	// for three minutes, but only to packets from the forger's own address.
	if most > s.due.newest {
		s.due = usedUp(most)
	}
	return true
}

// has reports whether the counter is marked.
func (s *side) has(counter uint64) bool {
	return s.due.has(counter) || s.ahead != nil && s.ahead.has(counter)
}

// old reports whether the counter is too far behind to tell.
func (s *side) old(counter uint64) bool {
	return s.due.newest >= windowSize && counter <= s.due.newest-windowSize
}

// usedUp is a window in which all counters up to the newest are marked.
func usedUp(newest uint64) window {
	w := window{newest: newest}
	for i := range w.seen {
		w.seen[i] = ^uint64(0)
	}
	return w
}

// take reports whether the counter is new, and marks it.
func (w *window) take(counter uint64) bool {
	switch {
	case counter > w.newest:
		if counter-w.newest >= windowSize {
			clear(w.seen[:])
		} else {
			for c := w.newest + 1; c < counter; c++ {
				w.seen[c%windowSize/64] &^= 1 << (c % 64)
			}
		}
		w.newest = counter
	case w.newest-counter >= windowSize:
		return false // too old to tell
	case w.has(counter):
		return false
	}
	w.seen[counter%windowSize/64] |= 1 << (counter % 64)
	return true
}

// has reports whether the counter is marked.
func (w *window) has(counter uint64) bool {
	return counter <= w.newest && w.newest-counter < windowSize && w.seen[counter%windowSize/64]&(1<<(counter%64)) != 0
}

// evict forgets the run that was silent longest. Called with the lock held.
func (r *replays) evict() {
	var oldest uint64
	for run, w := range r.runs {
		if o := r.runs[oldest]; o == nil || w.used.Before(o.used) {
			oldest = run
		}
	}
	delete(r.runs, oldest)
}

// countedHeader precedes the payload of a counted packet.
func countedHeader(run, counter uint64) []byte {
	b := make([]byte, 0, countedHead)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, run), counter)
}

// envelope is one frame for several members, sealed at most once for those that count packets and once for the others.
type envelope struct {
	w              *wire
	channel        byte
	payload        []byte
	counted, plain []byte
}

// to returns the packet for the address.
func (e *envelope) to(addr string) []byte {
	if e.w.ring == nil || !runCounts(e.w.run) || !e.w.counts(addr) {
		if e.plain == nil {
			e.plain = sealPacket(e.w.ring, e.w.label, e.channel, e.payload)
		}
		return e.plain
	}
	if e.counted == nil {
		head := countedHeader(e.w.run, e.w.counter.next(e.w.now()))
		e.counted = sealPacket(e.w.ring, e.w.label, e.channel|chanCounted, append(head, e.payload...))
	}
	return e.counted
}

// uncount removes the header of a counted packet that came from the address; run is 0 if it has none.
func (w *wire) uncount(channel byte, payload []byte, from string) (ch byte, rest []byte, run uint64, reason string) {
	if w.ring == nil || !runCounts(w.run) || channel&chanCounted == 0 {
		return channel, payload, 0, ""
	}
	if len(payload) < countedHead {
		return 0, nil, 0, "truncated packet"
	}
	run, counter := binary.BigEndian.Uint64(payload), binary.BigEndian.Uint64(payload[8:])
	most := mostCounter(w.now().Add(time.Duration(w.offset.Load())))
	home := from
	if !w.lives(from, run) {
		home = ""
	}
	if !w.replays.fresh(run, counter, home, most, time.Now()) {
		return 0, nil, 0, "replayed packet"
	}
	return channel &^ chanCounted, payload[countedHead:], run, ""
}
