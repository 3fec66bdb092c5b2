package store

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
)

// Guard bounds what others can have blocked on this member before an operator confirms it here. The limits for each origin are
// not enough: anybody with the gossip key can make up names. A wide ban is held, and so are bans of all other members that
// together cover more than one prefix of the space's lengths; single addresses (IPv6: /64 and narrower) do not count. What is
// in force stays, and what comes later is held. This member's own bans are free, unless others wrote them under its name. Each
// member guards itself: a confirmation made elsewhere does not prove that an operator made it. 0 means no bound.
//
// A held ban has EffectiveBan.Held set. It is effective as far as the set goes, so that members agree on the set.
type Guard struct {
	WidestV4, WidestV6 int
	SpaceV4, SpaceV6   int
}

// DefaultGuard holds every ban that would need an operator's --force on the member that makes it.
func DefaultGuard() Guard {
	return Guard{WidestV4: widestBanV4, WidestV6: widestBanV6, SpaceV4: 6, SpaceV6: 16}
}

const (
	// The key is older than the name of what it holds; files have it.
	confirmedKey = "words"
	maxConfirmed = 4096 // how many confirmed wide prefixes are remembered
)

// guardBook is the guard's state. Every live ban that counts, or may turn out to, is one of three: it carries the space of its
// prefix (flagSpace), it is held (flagHeld), or it is free because another ban of the prefix carries the space or an operator
// confirmed it.
type guardBook struct {
	Guard
	ready     bool              // loading is over: new bans are judged as they come
	held      map[uint32]bool   // held bans; true for the wide ones
	used      [2]uint64         // space of the bans that are not held, IPv6 and IPv4, as in origin.space
	granted   [2]uint64         // space beyond the bound that an operator confirmed
	confirmed map[pkey]struct{} // wide prefixes that an operator confirmed
	freed     bool              // space was freed since the last tick
	ended     bool              // a confirmed ban has ended, or may have
}

// wide asks with the prefix lengths of the family: a smaller length is a wider prefix.
func (g *Guard) wide(k pkey) bool {
	w := g.WidestV6
	if k.is4() {
		w = g.WidestV4
	}
	return k.length() < w
}

// guardLive judges a ban that has just become live within its limits.
func (s *set) guardLive(i uint32) {
	g, r := &s.guard, s.slab.at(i)
	// Judged already, free, of a blocked member, or still loading: review judges what was loaded.
	if !g.ready || g.Guard == (Guard{}) || r.is(flagSpace|flagHeld|flagOwn) || s.originOf(r).blocked {
		return
	}
	k := r.key()
	if g.wide(k) {
		if _, ok := g.confirmed[k]; !ok {
			s.hold(i, true)
		}
		return
	}
	if single(k) {
		return
	}
	// Another ban of the prefix carries the space, or is this member's own, which is free: nothing more is
	// blocked.
	for c := s.head(k); c != 0; {
		q := s.slab.at(c)
		if c != i && q.kind == KindBan && (q.is(flagSpace) || q.is(flagLive) && !q.is(flagHeld) && q.is(flagOwn) && s.counting(q)) {
			return
		}
		c = q.next
	}
	// Held beside what is in force: what came first stays.
	if !g.fits(k) {
		s.hold(i, false)
		return
	}
	r.flags |= flagSpace
	g.used[family(k)] += extent(k)
}

// fits reports whether there is space for a prefix.
func (g *guardBook) fits(k pkey) bool {
	size, f := extent(k), family(k)
	return room(size, k, g.used, g.SpaceV4, g.SpaceV6) || size <= g.granted[f] && g.used[f] <= g.granted[f]-size
}

// guardUnjudged judges a ban that counts until its origin's limits are evaluated again, which may be later.
func (s *set) guardUnjudged(i uint32) {
	if r := s.slab.at(i); r.kind == KindBan && r.live() && !r.is(flagOver) {
		s.guardLive(i)
	}
}

// single reports whether the prefix is one host's. Those are bounded by the limits of each origin, and must not be held because
// others have used up the space.
func single(k pkey) bool { return k.is4() && k.length() == 32 || !k.is4() && k.length() >= 64 }

// hold keeps a ban from this member's kernel, feeds and exports until an operator confirms it here.
// It still counts for other members, which judge for themselves.
func (s *set) hold(i uint32, wide bool) {
	s.slab.at(i).flags |= flagHeld
	s.guard.held[i] = wide
}

// guardLeave removes a ban that is no longer live from the guard's state.
func (s *set) guardLeave(i uint32) {
	g, r := &s.guard, s.slab.at(i)
	if r.is(flagHeld) {
		delete(g.held, i)
	}
	if len(g.confirmed) > 0 && r.kind == KindBan && !g.ended {
		_, g.ended = g.confirmed[r.key()]
	}
	if r.is(flagSpace) {
		k := r.key()
		g.used[family(k)] -= extent(k)
		g.freed = true
		for c := s.head(k); c != 0; { // from now on another ban carries the space
			if q := s.slab.at(c); c != i && q.kind == KindBan && q.is(flagLive) && !q.is(flagHeld|flagOwn) && s.counting(q) {
				q.flags |= flagSpace
				g.used[family(k)] += extent(k)
				break
			} else {
				c = q.next
			}
		}
	}
	r.flags &^= flagHeld | flagSpace
}

// guardOrigin removes an origin's bans from the guard's state when it is blocked, and judges them when it no longer is.
func (s *set) guardOrigin(o *origin) {
	for _, l := range o.logs {
		for _, i := range l.recs {
			switch r := s.slab.at(i); {
			case r.kind != KindBan || r.is(flagDead):
			case o.blocked:
				s.guardLeave(i)
			default:
				s.guardUnjudged(i)
			}
		}
	}
}

// review judges all live bans anew, the narrowest first: after loading, because their order of arrival is unknown, and after a
// confirmation.
func (s *set) review() {
	g := &s.guard
	if g.Guard == (Guard{}) {
		g.ready = true
		return
	}
	// The bans that were held, to tell which ones come into force or leave it.
	was := g.held
	g.ready, g.held, g.used = true, make(map[uint32]bool), [2]uint64{}
	var byLength [129][]uint32
	for i := uint32(1); i < s.slab.used; i++ {
		if r := s.slab.at(i); r.kind == KindBan && r.is(flagLive|flagSpace|flagHeld) && !r.is(flagDead) {
			r.flags &^= flagHeld | flagSpace
			byLength[r.bits] = append(byLength[r.bits], i)
		}
	}
	for bits := 128; bits >= 0; bits-- {
		for _, i := range byLength[bits] {
			s.guardLive(i)
			if _, before := was[i]; !before && s.slab.at(i).is(flagHeld) {
				s.emit(s.event(EventExtend, s.slab.at(i))) // it is no longer in force
			}
		}
	}
	for i := range was {
		if r := s.slab.at(i); !r.is(flagHeld) && liveBan(r, s.now) {
			s.emit(s.event(EventExtend, r)) // it comes into force
		}
	}
	g.freed = false
}

// guardAtOnce is how many bans one tick releases.
const guardAtOnce = 4096

// guardTick releases held bans for which there is space again, the narrowest first. The rest follow in the next ticks.
func (s *set) guardTick() {
	g := &s.guard
	if !g.freed {
		return
	}
	g.freed = false
	var byLength [129][]uint32
	for i, wide := range g.held {
		if r := s.slab.at(i); !wide && g.fits(r.key()) {
			byLength[r.bits] = append(byLength[r.bits], i)
		}
	}
	var full [2]bool // by family: once one prefix does not fit, nothing as wide does
	for bits, n := 128, 0; bits >= 0; bits-- {
		slices.Sort(byLength[bits])
		for _, i := range byLength[bits] {
			r := s.slab.at(i)
			f := family(r.key())
			if full[f] {
				continue
			}
			if n++; n > guardAtOnce {
				g.freed = true
				return
			}
			r.flags &^= flagHeld
			delete(g.held, i)
			if s.guardLive(i); r.is(flagHeld) {
				full[f] = true
			} else {
				s.emit(s.event(EventExtend, r))
			}
		}
	}
}

// endConfirmed forgets the confirmations of prefixes that have no live ban left, so that the next ban of one is held again. It
// reports whether the confirmations must be saved.
func (s *set) endConfirmed() bool {
	g := &s.guard
	if !g.ended || !s.agree { // a ban that ended by a wrong clock may become live again
		return false
	}
	g.ended = false
	for k := range g.confirmed {
		if !s.anyLive(k) {
			delete(g.confirmed, k)
		}
	}
	return true
}

// anyLive reports whether some live ban has exactly this prefix.
func (s *set) anyLive(k pkey) bool {
	for c := s.head(k); c != 0; {
		r := s.slab.at(c)
		if liveBan(r, s.now) {
			return true
		}
		c = r.next
	}
	return false
}

// HeldOrigin counts the bans of one origin that wait for an operator's confirmation on this member.
type HeldOrigin struct {
	Origin string
	Wide   int // wide bans
	Mass   int // bans that are too much in total
}

// Holding returns the origins whose bans wait for an operator's confirmation on this member, by name.
func (s *Store) Holding() []HeldOrigin {
	s.mu.RLock()
	defer s.mu.RUnlock()
	by := make(map[string]*HeldOrigin)
	for i, wide := range s.set.guard.held {
		r := s.set.slab.at(i)
		if !s.set.counting(r) {
			continue
		}
		name := s.set.originOf(r).name
		h := by[name]
		if h == nil {
			h = &HeldOrigin{Origin: name}
			by[name] = h
		}
		if wide {
			h.Wide++
		} else {
			h.Mass++
		}
	}
	out := make([]HeldOrigin, 0, len(by))
	for _, h := range by {
		out = append(out, *h)
	}
	slices.SortFunc(out, func(a, b HeldOrigin) int {
		return cmp.Or(cmp.Compare(b.Wide+b.Mass, a.Wide+a.Mass), cmp.Compare(a.Origin, b.Origin))
	})
	return out
}

// ConfirmHeld confirms what is held on this member, for an operator. The confirmation survives restarts. It covers wide prefixes
// one by one, as long as they are banned, and the space covered now plus as much again as the bound. It returns how many
// prefixes were held.
func (s *Store) ConfirmHeld(ctx context.Context) (prefixes int, err error) {
	s.mu.RLock()
	g := &s.set.guard
	granted := g.granted
	wide, mass := make(map[pkey]struct{}), make(map[pkey]struct{})
	var more [2]uint64
	for i, w := range g.held {
		if k := s.set.slab.at(i).key(); w {
			wide[k] = struct{}{}
		} else if _, ok := mass[k]; !ok {
			mass[k] = struct{}{}
			more[family(k)] += extent(k)
		}
	}
	for f, bound := range [2]uint64{1 << (64 - g.SpaceV6), 1 << (32 - g.SpaceV4)} {
		if more[f] > 0 { // otherwise the very next ban would need another confirmation
			granted[f] = g.used[f] + more[f] + bound
		}
	}
	prefixes = len(wide) + len(mass)
	// Earlier confirmations go on for as long as their prefix is banned.
	for k := range g.confirmed {
		if s.set.anyLive(k) {
			wide[k] = struct{}{}
		}
	}
	s.mu.RUnlock()
	if prefixes == 0 {
		return 0, nil
	}
	// Durable before it counts: after a restart the same bans must not be held again. Not under mu, as it waits
	// for the disk.
	if err := s.SaveMeta(ctx, confirmedKey, encodeConfirmed(granted, wide)); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.confirmed, g.granted = wide, granted
	g.ended = true // some may have ended meanwhile, and Tick may have saved the older state
	s.set.review()
	s.collect()
	return prefixes, nil
}

// encodeConfirmed writes 16 bytes of granted space and 17 bytes for each wide prefix. Beyond
// maxConfirmed some are left out: their bans are held again after a restart, which an operator
// sees, while the file stays small.
func encodeConfirmed(granted [2]uint64, wide map[pkey]struct{}) []byte {
	b := binary.BigEndian.AppendUint64(nil, granted[0])
	b = binary.BigEndian.AppendUint64(b, granted[1])
	n := 0
	for k := range wide {
		if n++; n > maxConfirmed {
			break
		}
		a := k.prefix().Addr().As16()
		b = append(append(b, a[:]...), k.bits)
	}
	return b
}

// loadConfirmed reads the saved confirmations, and judges what was loaded.
func (s *Store) loadConfirmed() {
	g := &s.set.guard
	g.confirmed = make(map[pkey]struct{})
	if b := s.meta[confirmedKey]; len(b) >= 16 {
		g.granted = [2]uint64{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
		for b = b[16:]; len(b) >= 17; b = b[17:] {
			k := pkey{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), b[16]}
			if k.bits <= 128 {
				g.confirmed[k] = struct{}{}
			}
		}
	}
	g.ended = len(g.confirmed) > 0
	s.ownLoaded()
	s.set.review()
}

// holds reports whether every ban of a prefix that counts is held.
func (s *set) holds(head uint32) bool {
	held := false
	for c := head; c != 0; {
		r := s.slab.at(c)
		if liveBan(r, s.now) && s.counting(r) {
			if !r.is(flagHeld) {
				return false
			}
			held = true
		}
		c = r.next
	}
	return held
}
