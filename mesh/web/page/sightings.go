package page

import (
	"cmp"
	"slices"

	"banmesh/mesh/control"
)

// keptSightings bounds the addresses whose banning routers are remembered, about 200 bytes each. Those banned by few and long
// ago go first.
const keptSightings = 16384

// sightings records which routers have a live ban of an address.
type sightings struct {
	of map[string]*sighting
}

// sighting is a prefix with its live bans, for telling on how many routers and in how many jails it was seen.
type sighting struct {
	prefix string
	bans   []ban
	last   control.Time // the latest start
}

// add replaces a ban of the same router and jail: a prolongation is no new sighting.
func (s *sightings) add(b ban) {
	if s.of == nil {
		s.of = make(map[string]*sighting)
	}
	x := s.of[b.Prefix]
	if x == nil {
		if len(s.of) >= keptSightings {
			// Half at once, since it sorts all of them.
			s.shed()
		}
		x = &sighting{prefix: b.Prefix}
		s.of[b.Prefix] = x
	}
	x.last = max(x.last, b.Start)
	for i := range x.bans {
		if x.bans[i].same(b.Prefix, b.Origin, b.Jail) {
			x.bans[i] = b
			return
		}
	}
	x.bans = append(x.bans, b)
}

func (s *sightings) drop(b ban) {
	x := s.of[b.Prefix]
	if x == nil {
		return
	}
	x.bans = slices.DeleteFunc(x.bans, func(o ban) bool { return o.same(b.Prefix, b.Origin, b.Jail) })
	if len(x.bans) == 0 {
		delete(s.of, b.Prefix)
	}
}

// shed forgets half of them: those with the fewest bans first, then the oldest.
func (s *sightings) shed() {
	all := make([]*sighting, 0, len(s.of))
	for _, x := range s.of {
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b *sighting) int {
		return cmp.Or(cmp.Compare(len(b.bans), len(a.bans)), cmp.Compare(b.last, a.last))
	})
	for _, x := range all[len(all)/2:] {
		delete(s.of, x.prefix)
	}
}

// compareSightings orders by the number of routers, then the number of jails, then the latest start.
func compareSightings(a, b *sighting) int {
	return cmp.Or(
		cmp.Compare(b.origins(), a.origins()), cmp.Compare(len(b.bans), len(a.bans)),
		cmp.Compare(b.last, a.last), cmp.Compare(a.prefix, b.prefix),
	)
}

// origins counts the routers.
func (x *sighting) origins() int {
	n := 0
	for i := range x.bans {
		if !slices.ContainsFunc(x.bans[:i], func(o ban) bool { return o.Origin == x.bans[i].Origin }) {
			n++
		}
	}
	return n
}

// names returns the routers or the jails, sorted.
func (x *sighting) names(of func(*ban) string) []string {
	var out []string
	for i := range x.bans {
		out = append(out, of(&x.bans[i]))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// most returns the n most widely banned addresses, each banned by at least two routers or in at least two jails.
func (s *sightings) most(n int) []*sighting {
	var out []*sighting
	for _, x := range s.of {
		if len(x.bans) > 1 {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, compareSightings)
	return out[:min(n, len(out))]
}
