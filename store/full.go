package store

import "slices"

// Full returns, by name, the origins of which no further record is kept because they hold all that one may, or that all
// may together: an own name among them takes no new ban. What has expired counts until it is forgotten.
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
