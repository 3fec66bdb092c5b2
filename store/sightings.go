package store

import (
	"cmp"
	"slices"
)

// sightings counts which members banned one prefix in which jails. It is reused for each prefix, so that a walk over a million
// of them allocates nothing.
type sightings struct {
	all   []Sighting
	jails []JailSeen
}

func (s *sightings) clear() { s.all, s.jails = s.all[:0], s.jails[:0] }

func (s *sightings) add(by *origin, jail string) { s.all = append(s.all, Sighting{jail, by.name}) }

// count returns the number of members, and the jails in order with the members of each. The slice is reused.
func (s *sightings) count() (origins int, jails []JailSeen) {
	if len(s.all) == 1 { // nearly always
		s.jails = append(s.jails, JailSeen{s.all[0].Jail, 1})
		return 1, s.jails
	}
	slices.SortFunc(s.all, func(a, b Sighting) int { return cmp.Or(cmp.Compare(a.Origin, b.Origin), cmp.Compare(a.Jail, b.Jail)) })
	// A member may have the same ban twice, from before and after a restart.
	s.all = slices.Compact(s.all)
	for i, x := range s.all {
		if i == 0 || s.all[i-1].Origin != x.Origin {
			origins++
		}
		at, found := slices.BinarySearchFunc(s.jails, x.Jail, func(j JailSeen, jail string) int { return cmp.Compare(j.Jail, jail) })
		if !found {
			s.jails = slices.Insert(s.jails, at, JailSeen{Jail: x.Jail})
		}
		s.jails[at].Origins++
	}
	return origins, s.jails
}
