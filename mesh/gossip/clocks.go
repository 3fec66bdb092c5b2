package gossip

import (
	"net/netip"
	"slices"
	"time"

	"banmesh/internal/ipranges"
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
	p.skew, p.hasSkew, p.seen, p.unanswered, p.packet, p.met = skew, true, now, time.Time{}, now, true
	if first {
		t.refresh()
	}
}

// skews returns the measured clock differences of the alive members and the last ones of those that are gone, or back and not
// measured yet; drift is that of this member's own clock. Each host has one vote, however many members claim to be there: a key holder can invent names,
// but not addresses that answer. measured is the number of members behind the votes of the alive.
// A member's clock decides when bans end for the whole mesh, so a vote must cost something: an address that answers.
func (t *table) skews(drift time.Duration) (alive, gone []time.Duration, measured, lost int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	here, away := make(map[string][]time.Duration), make(map[string][]time.Duration)
	for _, p := range t.all {
		switch {
		case !p.hasSkew && p.hasFormer:
			away[p.host] = append(away[p.host], p.former-drift)
			lost++
		case !p.hasSkew:
		case p.state == Alive:
			here[p.host] = append(here[p.host], p.skew-drift)
			measured++
		default:
			away[p.host] = append(away[p.host], p.skew-drift)
			lost++
		}
	}
	for host := range here {
		delete(away, host)
	}
	return voices(here), voices(away), measured, lost
}

// voice identifies the host whose vote a member's clock belongs to. On loopback every port is a host of its own.
func voice(addr string) string {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || ap.Addr().IsLoopback() {
		return addr
	}
	return ipranges.Host(ap.Addr()).String()
}

// voices gives each group one voice, the median of its members'. A group that invents members gets no more
// weight by it.
func voices(of map[string][]time.Duration) []time.Duration {
	out := make([]time.Duration, 0, len(of))
	for _, all := range of {
		slices.Sort(all)
		out = append(out, all[len(all)/2])
	}
	return out
}

// Offset is the median of the members' clocks minus the own one (which is included), and whether the own clock agrees with it
// within maxSplit. It does not agree if there are other members and too few were measured: nothing may be forgotten by the word of
// one clock.
func (m *Mesh) Offset() (median time.Duration, agree bool) {
	alive, gone, measured, lost := m.table.skews(m.drift())
	if measured == 0 {
		// The last known clocks are better than none for a router that has just been cut off.
		alive, gone, measured = gone, nil, lost
	}
	enough := measured >= min(settleWith, m.table.alive()-1)
	// The own clock has a vote as well.
	median, split := middle(append(alive, 0))
	if split {
		// Half against half: the middle between the two would be the time of nobody, and what is banned now would start in the
		// future for all others. Those that were here a while ago may know better.
		median, _ = middle(append(append(alive, 0), gone...))
	}
	return median, enough && median.Abs() <= maxSplit
}

// maxSplit is how far clocks that agree lie apart.
const maxSplit = time.Minute

// middle is the median, and whether those on either side of it contradict each other.
func middle(all []time.Duration) (median time.Duration, split bool) {
	slices.Sort(all)
	median = all[len(all)/2]
	if len(all)%2 == 1 {
		return median, false
	}
	below := all[len(all)/2-1]
	return (below + median) / 2, median-below > maxSplit
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
