package gossip

import (
	"net/netip"
	"slices"
	"time"

	"banmesh/store"
)

// measured records a member's clock difference, which also shows that the member has answered.
func (t *table) measured(name string, skew time.Duration, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.all[name]
	if p == nil {
		return
	}
	first := !p.hasSkew
	p.skew, p.hasSkew, p.seen, p.unanswered, p.packet = skew, true, now, time.Time{}, now
	if first {
		t.refresh()
	}
}

// skews returns the measured clock differences of alive members, or of gone ones if no alive member was measured; drift is that
// of this member's own clock. Each host has one vote, however many members claim to be there: a key holder can invent names,
// but not addresses that answer. measured is the number of members behind the votes.
// A member's clock decides when bans end for the whole mesh, so a vote must cost something: an address that answers.
func (t *table) skews(drift time.Duration) (all []time.Duration, measured int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	alive, gone := make(map[string][]time.Duration), make(map[string][]time.Duration)
	lost := 0
	for _, p := range t.all {
		switch {
		case !p.hasSkew:
		case p.state == Alive:
			alive[p.host] = append(alive[p.host], p.skew-drift)
			measured++
		default:
			gone[p.host] = append(gone[p.host], p.skew-drift)
			lost++
		}
	}
	if measured == 0 {
		// The last known clocks are better than none for a router that has just been cut off.
		return voices(gone), lost
	}
	return voices(alive), measured
}

// voice identifies the host whose vote a member's clock belongs to: an IPv4 address or an IPv6 /64. On loopback every port is a
// host of its own.
func voice(addr string) string {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || ap.Addr().IsLoopback() {
		return addr
	}
	if ap.Addr().Is6() {
		p, err := ap.Addr().WithZone("").Prefix(64)
		if err == nil {
			return p.String()
		}
	}
	return ap.Addr().String()
}

func voices(of map[string][]time.Duration) []time.Duration {
	out := make([]time.Duration, 0, len(of))
	for _, all := range of {
		slices.Sort(all)
		out = append(out, all[len(all)/2])
	}
	return out
}

// Offset is the median of the members' clocks minus the own one (which is included), and whether the own clock agrees with it
// within 60 s. It does not agree if there are other members and too few were measured: nothing may be forgotten by the word of
// one clock.
func (m *Mesh) Offset() (median time.Duration, agree bool) {
	all, measured := m.table.skews(m.drift())
	enough := measured >= min(settleWith, m.table.alive()-1)
	// The own clock has a vote as well.
	all = append(all, 0)
	slices.Sort(all)
	median = all[len(all)/2]
	if len(all)%2 == 0 {
		median = (all[len(all)/2-1] + median) / 2
	}
	return median, enough && median.Abs() <= time.Minute
}

// drift is how far the own wall clock has moved against the steady time since the start. It shows a clock that was set, or a
// machine that was suspended, at once and before any member is measured again.
func (m *Mesh) drift() time.Duration {
	// Without the monotonic reading: Sub would otherwise compare the clocks that never jump.
	return m.cfg.Now().Round(0).Sub(m.startedWall) - time.Since(m.started)
}

// minute is the current minute by the clock of the majority, so that all members ask for the root of the same minute, even
// those whose clock is wrong.
func (m *Mesh) minute() int64 {
	offset, _ := m.Offset()
	return store.Minute(m.cfg.Now().Add(offset))
}
