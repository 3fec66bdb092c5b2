package store

import "slices"

// Full returns, by name, the origins of which no further record is kept because the storage limit for one origin or for all is
// reached. If the own name is among them, this member accepts no new ban. Expired records count until they are forgotten.
func (s *Store) Full() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []string
	most := s.set.limits.StoredPerOrigin
	for name, o := range s.set.origins {
		if o.records > 0 && (s.set.full(o) || most > 0 && name == s.set.self && o.records >= most) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
