package mesh

import (
	"context"

	"banmesh/store"
)

// nameKey is where the store keeps the name of the router whose it is. The name
// defaults to the host's, which others change: under another one fail2ban's own
// unbans lift nothing, because what the router had banned is no longer its own.
const nameKey = "name"

// rememberName notes the router's name, and returns the one that the store was
// written under where it is another and live bans of it are left.
func rememberName(ctx context.Context, s *store.Store, name string) (former string, err error) {
	b, known := s.Meta(nameKey)
	former = string(b)
	if known && former != name && bansOf(s, former) {
		return former, nil
	}
	if known && former == name {
		return "", nil
	}
	return "", s.SaveMeta(ctx, nameKey, []byte(name))
}

// bansOf reports whether a live ban of that origin is held.
func bansOf(s *store.Store, origin string) bool {
	for _, e := range s.List(store.Query{}) {
		for _, r := range e.Records {
			if r.Origin == origin {
				return true
			}
		}
	}
	return false
}
