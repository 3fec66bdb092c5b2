package store

import (
	"cmp"
	"context"
	"slices"
)

func keyOfNotice(n Notice) noticeKey { return noticeKey{n.Kind, n.Prefix, n.Jail} }

// isTold reports whether the same notice is queued already.
func (s *Store) isTold(n Notice) bool {
	id, ok := s.told[keyOfNotice(n)]
	if !ok {
		return false
	}
	old := s.notices[id]
	return sameStart(old.Start, n.Start) && (n.Kind != NoticeAllow || old.Until >= n.Until)
}

// keepNotice and dropNotice keep the two views of the notices together: by number, in their order,
// and by what they tell, so that the same is not told twice. Called with mu held.
func (s *Store) keepNotice(n Notice) {
	s.notices[n.ID] = n
	s.told[keyOfNotice(n)] = n.ID
	s.noticed = max(s.noticed, n.ID)
}

func (s *Store) dropNotice(id uint64) {
	if n, ok := s.notices[id]; ok {
		delete(s.notices, id)
		if s.told[keyOfNotice(n)] == id {
			delete(s.told, keyOfNotice(n))
		}
	}
}

// Notices returns what the local fail2ban must still be told, oldest first.
func (s *Store) Notices() []Notice {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]Notice, 0, len(s.notices))
	for _, n := range s.notices {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b Notice) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// DoneNotice deletes notices, durably. Unknown IDs are ignored.
func (s *Store) DoneNotice(ctx context.Context, ids ...uint64) error {
	return s.do(ctx, func(p *plan) error {
		p.done = append(p.done, ids...)
		p.used = len(ids) > 0
		return nil
	})
}
