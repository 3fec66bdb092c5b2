package store

import (
	"net/netip"

	"github.com/google/btree"
	"go4.org/netipx"

	"banmesh/internal/ipranges"
)

// allowBook finds the held allows by prefix, whether or not they count: there may be hundreds of thousands, and any change of
// one must not cost as much as all of them. Whether one counts is read from its record when it is asked for.
type allowBook struct {
	tree  *btree.BTreeG[allowRef]
	lens  [2][129]int // how many there are of each length, IPv6 and IPv4
	first [2][256]int // how many overlap each first byte of an address
}

// allowRef is one allow in the order of prefixes.
type allowRef struct {
	key pkey
	i   uint32
}

// newAllowBook orders allows by prefix and then by index, since several may name one prefix.
func newAllowBook() allowBook {
	return allowBook{tree: btree.NewG(32, func(a, b allowRef) bool {
		if c := a.key.compare(b.key); c != 0 {
			return c < 0
		}
		return a.i < b.i
	})}
}

func (b *allowBook) add(k pkey, i uint32) {
	b.tree.ReplaceOrInsert(allowRef{k, i})
	b.count(k, 1)
}

func (b *allowBook) remove(k pkey, i uint32) {
	b.tree.Delete(allowRef{k, i})
	b.count(k, -1)
}

// count keeps how many allows there are of each length and of each first byte. Most bans have no
// allow anywhere near, and these two arrays tell so at once.
func (b *allowBook) count(k pkey, by int) {
	b.lens[family(k)][k.bits] += by
	from, to := firstBytes(k)
	for n := from; n <= to; n++ {
		b.first[family(k)][n] += by
	}
}

// firstBytes returns between which values the first byte of the addresses of a prefix lies.
func firstBytes(k pkey) (from, to int) {
	from = int(k.hi >> 56)
	if k.is4() {
		from = int(k.lo >> 24 & 0xff)
	}
	return from, from | 0xff>>min(k.length(), 8)
}

// all calls f with every allow that is held, in the order of prefixes.
func (b *allowBook) all(f func(i uint32)) {
	b.tree.Ascend(func(a allowRef) bool {
		f(a.i)
		return true
	})
}

// within calls f with the allows of k and of what lies within it, until f returns false.
func (b *allowBook) within(k pkey, f func(i uint32) bool) {
	b.tree.AscendGreaterOrEqual(allowRef{key: k}, func(a allowRef) bool { return k.covers(a.key) && f(a.i) })
}

// exempts reports whether the record is an allow that counts.
func (s *set) exempts(r *rec, now Millis) bool {
	return r.kind == KindAllow && !r.is(flagLifted) && r.until > now && s.counting(r)
}

// allowing calls f with the allows that count and cover k, until f returns false.
func (s *set) allowing(k pkey, now Millis, f func(r *rec) bool) {
	lens := &s.allows.lens[family(k)]
	first := uint8(1)
	if k.is4() {
		first = 97
	}
	for n := first; n <= k.bits; n++ {
		if lens[n] == 0 {
			continue
		}
		for c := s.head(k.masked(n)); c != 0; {
			r := s.slab.at(c)
			if s.exempts(r, now) && !f(r) {
				return
			}
			c = r.next
		}
	}
}

// protected is what must not be blocked apart from the allows: the built-in prefixes, this member's own and the never-bans.
type protected struct {
	ipranges.Set
	near     func(netip.Prefix) bool
	version  uint64 // control.protectedVersion from which it was built
	from, to Millis // when it is true if nothing changes: a clock may step back
}

// exemptions answers what of a prefix must not be blocked at one moment, without visiting all allows.
type exemptions struct {
	set       *set
	now       Millis
	protected *protected
}

// exemptionsLocked returns what must not be blocked now. Called with mu held, for reading at least, and valid as long.
func (s *Store) exemptionsLocked(now Millis) exemptions {
	s.protectedMu.Lock()
	defer s.protectedMu.Unlock()
	if p := s.protected; p == nil || p.version != s.set.control.protectedVersion || now < p.from || now >= p.to {
		prefixes, until := s.set.protects(now)
		whole := ipset(prefixes)
		s.protected = &protected{ipranges.Of(whole), nearExemption(whole), s.set.control.protectedVersion, now, until}
	}
	return exemptions{s.set, now, s.protected}
}

// near is a quick test for what may overlap an exemption: most bans are nowhere near one.
func (e exemptions) near(p netip.Prefix) bool {
	if e.protected.near(p) { // all that are wider than a first byte too
		return true
	}
	if a := p.Addr(); a.Is4() {
		return e.set.allows.first[1][a.As4()[0]] > 0
	}
	return e.set.allows.first[0][p.Addr().As16()[0]] > 0
}

// overlap is how much of a prefix is exempt.
type overlap uint8

const (
	// The order matters: a greater value covers more.
	overlapsNot overlap = iota
	overlapsSome
	overlapsWhole // one exemption covers it; several together count as some
)

// overlap looks for the exemptions of a valid prefix.
func (e exemptions) overlap(p netip.Prefix) (o overlap) {
	if !e.near(p) {
		return overlapsNot
	}
	k, err := keyOf(p)
	if err != nil {
		return overlapsNot
	}
	e.set.allowing(k, e.now, func(*rec) bool {
		o = overlapsWhole
		return false
	})
	switch {
	case o == overlapsWhole || e.protected.ContainsPrefix(p):
		return overlapsWhole
	case e.protected.OverlapsPrefix(p):
		return overlapsSome
	case k.bits < 128:
		e.set.allows.within(k, func(i uint32) bool {
			if e.set.exempts(e.set.slab.at(i), e.now) {
				o = overlapsSome
			}
			return o == overlapsNot
		})
	}
	return o
}

// covers reports whether all of a prefix is exempt.
func (e exemptions) covers(p netip.Prefix) bool {
	o := e.overlap(p)
	return o == overlapsWhole || o == overlapsSome && len(e.pieces(p)) == 0
}

// pieces returns the part of a prefix outside the exemptions: the prefix itself, pieces of it, or nothing.
func (e exemptions) pieces(p netip.Prefix) []netip.Prefix {
	switch e.overlap(p) {
	case overlapsNot:
		return []netip.Prefix{p}
	case overlapsWhole:
		return nil
	}
	var b netipx.IPSetBuilder
	b.AddPrefix(p)
	for _, q := range e.inside(p) {
		b.RemovePrefix(q)
	}
	return prefixesOf(&b)
}

// cutOut returns the parts of a prefix inside the exemptions.
func (e exemptions) cutOut(p netip.Prefix) []netip.Prefix {
	switch e.overlap(p) {
	case overlapsNot:
		return nil
	case overlapsWhole:
		return []netip.Prefix{p}
	}
	return ipset(e.inside(p)).Prefixes()
}

// inside returns the exemptions within a prefix that none of them covers whole.
func (e exemptions) inside(p netip.Prefix) (out []netip.Prefix) {
	k, err := keyOf(p)
	if err != nil {
		return nil
	}
	if e.protected.OverlapsPrefix(p) {
		for _, q := range e.protected.Prefixes() {
			if p.Overlaps(q) {
				out = append(out, q)
			}
		}
	}
	e.set.allows.within(k, func(i uint32) bool {
		if r := e.set.slab.at(i); e.set.exempts(r, e.now) {
			out = append(out, r.key().prefix())
		}
		return true
	})
	return out
}

// Exempts reports whether any address of a prefix must not be blocked.
func (s *Store) Exempts(p netip.Prefix) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.exemptionsLocked(s.now()).overlap(p) != overlapsNot
}

// Exemptions returns what must not be blocked, whole: the built-in prefixes, the members' never-bans and the live allows. It
// costs as much as there are allows whenever one of them has changed; Exempts does not.
func (s *Store) Exemptions() *netipx.IPSet {
	s.exemptionsMu.Lock()
	defer s.exemptionsMu.Unlock()
	s.mu.RLock()
	now, version := s.now(), s.set.control.exemptionsVersion
	if s.exemptions != nil && s.exemptionsAt == version && s.exemptionsOf <= now && now < s.exemptionsTo {
		s.mu.RUnlock()
		return s.exemptions
	}
	prefixes, until := s.set.exempt(now)
	s.mu.RUnlock() // sorting them takes longer than collecting them, and writers need not wait for it
	s.exemptions = ipset(prefixes)
	s.exemptionsAt, s.exemptionsOf, s.exemptionsTo = version, now, until
	return s.exemptions
}

// protects returns what must not be blocked apart from the allows, and until when that stays true if nothing changes.
func (s *set) protects(now Millis) (prefixes []netip.Prefix, until Millis) {
	prefixes, until = append(builtin(), s.control.own...), Never
	for _, i := range s.neverBans(now) {
		until = min(until, s.slab.at(i).until)
		prefixes = append(prefixes, leaseHolds(s.never[i])...)
	}
	return prefixes, until
}

// exempt returns what must not be blocked, and until when that stays true if nothing changes.
func (s *set) exempt(now Millis) (prefixes []netip.Prefix, until Millis) {
	prefixes, until = s.protects(now)
	s.allows.all(func(i uint32) {
		if r := s.slab.at(i); s.exempts(r, now) {
			until = min(until, r.until)
			prefixes = append(prefixes, r.key().prefix())
		}
	})
	return prefixes, until
}

// ipset returns the set of valid prefixes.
func ipset(prefixes []netip.Prefix) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, p := range prefixes {
		b.AddPrefix(p)
	}
	set, err := b.IPSet()
	if err != nil { // only invalid prefixes fail, and keyOf lets none in
		return new(netipx.IPSet)
	}
	return set
}

// prefixesOf returns the fewest prefixes that cover a set. The builder fails only for input that is
// not valid, which prefixes from the store are not.
func prefixesOf(b *netipx.IPSetBuilder) []netip.Prefix {
	set, err := b.IPSet()
	if err != nil {
		return nil
	}
	return set.Prefixes()
}
