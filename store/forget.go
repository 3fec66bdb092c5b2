package store

import (
	"context"

	"banmesh/store/text"
)

// forgetHolds is how long a Forget is kept, for members that are away when it is written.
const forgetHolds = 7 * 24 * hour

// Forget tells all members that one is not coming back. Its records stay.
func (s *Store) Forget(ctx context.Context, name string) error {
	if err := text.CheckName(name); err != nil {
		return &InvalidError{reason: "member " + err.Error()}
	}
	return s.do(ctx, func(p *plan) error {
		p.write(item{kind: KindForget, key: noPrefix, start: p.now, until: p.now.plus(forgetHolds), jail: name})
		return nil
	})
}

// Forgotten returns the members that are no longer looked for, with the time before which each must have failed. A blocked
// member's Forgets do not count. Neither do Forgets dated further ahead than agreeing clocks can differ: they would erase every
// member that fails from now on.
func (s *Store) Forgotten() map[string]Millis {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out map[string]Millis
	s.set.unprefixed(KindForget, s.set.now, func(_ uint32, r *rec) {
		if o := s.set.originOf(r); o.blocked || o.unlisted || r.start > s.set.now+minute {
			return
		}
		if out == nil {
			out = make(map[string]Millis)
		}
		name := s.set.labels.at(r.label).jail
		out[name] = max(out[name], r.start)
	})
	return out
}
