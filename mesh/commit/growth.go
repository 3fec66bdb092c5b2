package commit

import (
	"net/netip"
	"slices"
	"time"
)

// Bans wider than these come into the tenant only once an operator confirms them.
const (
	widestIPv4 = 16
	widestIPv6 = 32
)

// growthWindow is the period whose additions count as one: otherwise the same growth would pass in several commits.
const growthWindow = time.Hour

// tooWide reports whether an addition needs an operator's word for its width alone.
func tooWide(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < widestIPv4
	}
	return p.Bits() < widestIPv6
}

// guardGrowth takes out of the wanted bans those that an operator must confirm: wide ones, and those that make the tenant grow
// by too much at once. It judges bans, not the prefixes added for them, which may be joined. Bans that are or were in the
// tenant, or that an operator has confirmed, are free.
func (d *draft) guardGrowth() {
	if d.frozen { // nothing is added
		return
	}
	var fresh []int // indexes into bans
	wide := false
	for i, b := range d.bans {
		if _, there := d.present[b.prefix]; b.wanted && !there {
			fresh = append(fresh, i)
			wide = wide || b.wide
		}
	}
	room := d.growthRoom()
	if !wide && len(d.waiting) == 0 && len(fresh) <= room {
		return
	}
	free := d.freeSpace()
	hold := func(i int) {
		d.bans[i].wanted, d.bans[i].unconfirmed = false, true
		d.plan.HeldAdd = append(d.plan.HeldAdd, d.bans[i].prefix)
	}
	rest := fresh[:0]
	for _, i := range fresh {
		b := d.bans[i]
		_, waits := d.waiting[b.prefix]
		switch {
		// It was there, or an operator has confirmed it.
		case free(b.prefix):
		case b.wide || waits:
			hold(i)
		default:
			rest = append(rest, i)
		}
	}
	if len(rest) <= room {
		return
	}
	slices.SortFunc(rest, func(i, j int) int {
		a, b := d.bans[i], d.bans[j]
		if c := a.compareWorth(b); c != 0 {
			return c
		}
		return a.compareAge(b)
	})
	for n, i := range rest[room:] {
		if d.maxAddresses > 0 && room+n >= d.maxAddresses { // no confirmation would bring it in
			d.bans[i].wanted, d.bans[i].unconfirmed = false, true
			d.plan.Capped = append(d.plan.Capped, d.bans[i].prefix)
			continue
		}
		hold(i)
	}
}

// growthRoom is how many may be added without confirmation.
func (d *draft) growthRoom() int {
	size, before := d.plan.size, d.before
	// Never looked before: what is there now is the measure.
	if before < 0 {
		before = size
	}
	step := func(n int) int { return max(d.growthFloor, n/100*d.maxGrowth+n%100*d.maxGrowth/100) }
	if size > before+step(before) { // an operator confirmed that growth
		before = size
	}
	return before + step(before) - size
}

// freeSpace reports the bans that need no confirmation.
func (d *draft) freeSpace() func(netip.Prefix) bool {
	free := slices.Clone(d.known)
	for _, p := range d.running {
		if _, ours := d.placed[p]; ours {
			free = append(free, p)
		}
	}
	if len(free) == 0 {
		return func(netip.Prefix) bool { return false }
	}
	return setOfPrefixes(free).ContainsPrefix
}

// sizeAt is how much of ours was in the tenant at one time.
type sizeAt struct {
	at time.Time
	n  int
}

// grew records how much of ours is in the tenant.
func (m *memory) grew(now time.Time, n int) {
	// One a minute is enough for an hour's growth, and bounds the list.
	if last := len(m.sizes) - 1; last >= 0 && now.Sub(m.sizes[last].at) < time.Minute {
		return
	}
	m.sizes = append(m.sizes, sizeAt{now, n})
	for len(m.sizes) > 1 && now.Sub(m.sizes[1].at) >= growthWindow {
		m.sizes = m.sizes[1:]
	}
}

// sizeBefore is how much of ours was in the tenant one growthWindow ago, as far back as this member has looked; negative if it
// has not.
func (m *memory) sizeBefore() int {
	if len(m.sizes) == 0 {
		return -1
	}
	return m.sizes[0].n
}

// free lists the prefixes that are not in running and need no confirmation: an operator confirmed them, or this member has seen
// them there.
func (m *memory) free() []netip.Prefix {
	var ps []netip.Prefix
	for p := range m.seen {
		if _, there := m.present[p]; !there {
			ps = append(ps, p)
		}
	}
	for p := range m.confirmed {
		ps = append(ps, p)
	}
	return ps
}

// giveWord records that an operator confirmed what was shown as held. It holds for as long as the bans live.
func (c *Committer) giveWord() {
	c.tenant.Lock()
	defer c.tenant.Unlock()
	for p := range c.memory.waiting {
		c.memory.confirmed[p] = struct{}{}
	}
}

// shown keeps what a plan holds back, for a confirmation that may follow.
func (c *Committer) shown(p Plan) {
	now := time.Now()
	waiting := make(map[netip.Prefix]struct{}, len(p.HeldAdd))
	for _, x := range p.HeldAdd {
		waiting[x] = struct{}{}
	}
	c.tenant.Lock()
	defer c.tenant.Unlock()
	c.memory.grew(now, p.size)
	c.memory.waiting = waiting
}
