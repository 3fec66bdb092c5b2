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

// growthWindow is what counts as at once where the tenant grows: else the same
// would come in several commits.
const growthWindow = time.Hour

func tooWide(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < widestIPv4
	}
	return p.Bits() < widestIPv6
}

// guardGrowth takes bans that an operator must confirm from what is wanted: wide ones,
// and those that make the tenant grow by too much at once. It looks at the bans
// and not at what is added for them, which may be joined. What is or was in the
// tenant, or an operator has confirmed, is free.
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
		d.bans[i].wanted = false
		d.plan.HeldAdd = append(d.plan.HeldAdd, d.bans[i].prefix)
	}
	rest := fresh[:0]
	for _, i := range fresh {
		b := d.bans[i]
		_, waits := d.waiting[b.prefix]
		switch {
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
		if d.maxAddresses > 0 && room+n >= d.maxAddresses { // no word brings it in
			d.bans[i].wanted = false
			d.plan.Capped = append(d.plan.Capped, d.bans[i].prefix)
			continue
		}
		hold(i)
	}
}

// growthRoom is how many may be added unconfirmed.
func (d *draft) growthRoom() int {
	size, before := d.plan.size, d.before
	if before < 0 {
		before = size
	}
	step := func(n int) int { return max(d.growthFloor, n/100*d.maxGrowth+n%100*d.maxGrowth/100) }
	if size > before+step(before) { // an operator confirmed that growth
		before = size
	}
	return before + step(before) - size
}

// freeSpace tells what needs no word.
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

// sizeAt is how much of ours was in the tenant at a moment.
type sizeAt struct {
	at time.Time
	n  int
}

// grew takes in how much of ours is in the tenant.
func (m *memory) grew(now time.Time, n int) {
	if last := len(m.sizes) - 1; last >= 0 && now.Sub(m.sizes[last].at) < time.Minute {
		return
	}
	m.sizes = append(m.sizes, sizeAt{now, n})
	for len(m.sizes) > 1 && now.Sub(m.sizes[1].at) >= growthWindow {
		m.sizes = m.sizes[1:]
	}
}

// sizeBefore is how much of ours was in the tenant a growthWindow ago, as far back
// as this member has looked; negative where it has not.
func (m *memory) sizeBefore() int {
	if len(m.sizes) == 0 {
		return -1
	}
	return m.sizes[0].n
}

// free lists what is not in running and needs no word: somebody has given it, or
// it was there and this member has seen it.
func (m *memory) free() []netip.Prefix {
	var ps []netip.Prefix
	for p := range m.seen {
		if _, there := m.present[p]; !there {
			ps = append(ps, p)
		}
	}
	for p := range m.word {
		ps = append(ps, p)
	}
	return ps
}

// giveWord takes in that somebody wants what has been shown to wait. It holds for
// as long as the bans live.
func (c *Committer) giveWord() {
	c.tenant.Lock()
	defer c.tenant.Unlock()
	for p := range c.memory.waiting {
		c.memory.word[p] = struct{}{}
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
