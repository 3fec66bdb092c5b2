package store

import (
	"net/netip"
	"slices"
	"sync"
)

// control holds the effect of the records without prefix: freezes, blocks and never-bans.
type control struct {
	dirty             bool
	exemptionsVersion uint64         // incremented whenever the exemptions may have changed
	protectedVersion  uint64         // likewise, for those that are no allows
	own               []netip.Prefix // what this member protects on itself, whatever any record says
	frozen            []string
	blocks            []string
}

// unprefixed calls f with the live records without prefix of one kind: neither lifted, expired nor dead.
func (s *set) unprefixed(kind Kind, now Millis, f func(i uint32, r *rec)) {
	for c := s.head(noPrefix); c != 0; {
		r := s.slab.at(c)
		if r.kind == kind && !r.is(flagLifted) && r.until > now {
			f(c, r)
		}
		c = r.next
	}
}

// unlisted reports whether an origin is missing from the configured members.
func (s *set) unlisted(name string) bool {
	return s.members != nil && !s.members[name] && name != s.self
}

// ignores reports whether nothing counts that the member writes.
func (s *set) ignores(name string) bool {
	o := s.origins[name]
	return o != nil && o.blocked || s.unlisted(name)
}

// blockedNames evaluates the Blocks. A Block counts unless a third member has blocked its author. So a member that blocks the
// others loses that power as soon as one of them blocks it, and if two block each other, both stay out until somebody else
// decides.
func (s *set) blockedNames() map[string]bool {
	type block struct{ by, of string }
	var all []block
	accusers := make(map[string][]string) // the authors of the Blocks of each member
	s.unprefixed(KindBlock, 0, func(_ uint32, r *rec) {
		b := block{s.originOf(r).name, s.labels.at(r.label).jail}
		if s.originOf(r).unlisted {
			return
		}
		all = append(all, b)
		if by := accusers[b.of]; b.by != b.of && len(by) < 3 && !slices.Contains(by, b.by) {
			accusers[b.of] = append(by, b.by) // with three authors, everybody has a third member among them
		}
	})
	blocked := make(map[string]bool)
	for _, b := range all {
		if !slices.ContainsFunc(accusers[b.by], func(z string) bool { return z != b.of }) {
			blocked[b.of] = true
		}
	}
	return blocked
}

// reblock evaluates the blocks and freezes again. It terminates because whether a Block is lifted does not depend on who is
// blocked.
func (s *set) reblock() {
	s.control.exemptionsVersion++
	s.control.protectedVersion++
	blocked := s.blockedNames()
	for name := range blocked {
		s.origin(name) // make it known, so that it is blocked before its first record comes
	}
	for name, o := range s.origins {
		want := blocked[name] || o.unlisted
		if o.blocked == want {
			continue
		}
		o.blocked = want
		s.guardOrigin(o)
		for _, l := range o.logs {
			for _, i := range l.recs {
				if r := s.slab.at(i); r.kind == KindLift && !r.is(flagDead) && !r.is(flagOver) {
					s.recheckTargets(i)
				}
			}
		}
		// It may have been known only for its block.
		s.dropOrigin(o)
	}
	s.control.blocks = s.control.blocks[:0]
	for name := range blocked {
		s.control.blocks = append(s.control.blocks, name)
	}
	slices.Sort(s.control.blocks)
	s.control.frozen = s.control.frozen[:0]
	s.unprefixed(KindFreeze, 0, func(_ uint32, r *rec) {
		if o := s.originOf(r); !o.blocked {
			s.control.frozen = append(s.control.frozen, o.name)
		}
	})
	slices.Sort(s.control.frozen)
	s.control.frozen = slices.Compact(s.control.frozen)
}

// builtin is never banned, whatever any record says: unspecified, loopback, link-local, multicast and broadcast.
var builtin = sync.OnceValue(func() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
		netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32"),
		netip.MustParsePrefix("::/128"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
	}
})

// tooWideToExempt reports whether a never-ban is wider than any honest member's.
func tooWideToExempt(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < 8
	}
	return p.Bits() < 16
}

// neverBans returns the NeverBan of each origin that counts: the one with the latest until, ties broken by epoch and number.
// Only one lease counts for each member, so that many restarts, or a hostile member's many leases, exempt no more than one.
func (s *set) neverBans(now Millis) []uint32 {
	best := make(map[*origin]uint32)
	s.unprefixed(KindNeverBan, now, func(i uint32, r *rec) {
		o := s.originOf(r)
		if o.blocked {
			return
		}
		if b, ok := best[o]; ok {
			q := s.slab.at(b)
			// An order that depends on the records alone: every member must choose the same lease.
			if q.until > r.until || q.until == r.until && s.order(q).compare(s.order(r)) > 0 {
				return
			}
		}
		best[o] = i
	})
	out := make([]uint32, 0, len(best))
	for _, i := range best {
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b uint32) int {
		x, y := s.originOf(s.slab.at(a)).name, s.originOf(s.slab.at(b)).name
		if x < y {
			return -1
		}
		return 1
	})
	return out
}

// ignored says why a live record does not count; "" if it counts.
func (s *set) ignored(r *rec) string {
	o := s.originOf(r)
	switch {
	// First, since an unlisted origin is blocked as well, and nobody has blocked it.
	case o.unlisted:
		return "origin " + o.name + " is not in limits.members"
	case o.blocked:
		return "origin " + o.name + " is blocked"
	case r.is(flagOver):
		return "over the limit of origin " + o.name
	}
	return ""
}
