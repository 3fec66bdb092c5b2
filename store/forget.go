package store

import (
	"context"

	"banmesh/store/text"
)

// forgetHolds is how long a Forget is kept: for members that are away when it is said.
const forgetHolds = 7 * 24 * hour

// Forget says to all members that one is not coming back. What it wrote stays.
func (s *Store) Forget(ctx context.Context, name string) error {
	if err := text.CheckName(name); err != nil {
		return &InvalidError{reason: "member " + err.Error()}
	}
	return s.do(ctx, func(p *plan) error {
		p.write(item{kind: KindForget, key: noPrefix, start: p.now, until: p.now.plus(forgetHolds), jail: name})
		return nil
	})
}

// Forgotten returns the members that are not looked for any more, with the time before which they must have failed. What a
// blocked member says of others does not count, nor what is said to have been written in the future, beyond what clocks that
// agree differ by: it would erase whatever fails from now on.
func (s *Store) Forgotten() map[string]Millis {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out map[string]Millis
	s.set.unprefixed(KindForget, s.set.now, func(_ uint32, r *rec) {
		if o := s.set.originOf(r); o.blocked || o.strange || r.start > s.set.now+minute {
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
