package store

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Unreadable is a record that cannot be read. It is set aside, and everything beside it counts.
type Unreadable struct {
	Dot    Dot  // Seq is 0 if even that cannot be read
	InFile bool // it is in the store file; otherwise a peer sent it
	Reason string
	at     time.Time
}

const (
	maxUnreadable = 1000             // how many are remembered
	unreadableFor = 10 * time.Minute // a peer that still holds it sends it again and again
)

// setAside remembers a record that cannot be read. Called with mu held.
func (s *Store) setAside(d Dot, reason string, inFile bool) {
	if _, known := s.unreadable[d]; !known {
		if len(s.unreadable) >= maxUnreadable {
			maps.DeleteFunc(s.unreadable, func(_ Dot, u Unreadable) bool { return !s.isNamed(&u) })
		}
		if len(s.unreadable) >= maxUnreadable {
			return
		}
		s.log.Warn("a record cannot be read and is set aside", "log", d.Log, "seq", d.Seq, "in the file", inFile, "reason", reason)
	}
	s.unreadable[d] = Unreadable{d, inFile, reason, s.cfg.Now()}
}

func (s *Store) isNamed(u *Unreadable) bool {
	return u.InFile || s.cfg.Now().Sub(u.at).Abs() < unreadableFor
}

// Unreadable returns the records that are set aside, at most a thousand, by origin and number: those of the file, and those
// that peers sent within the last ten minutes.
func (s *Store) Unreadable() []Unreadable {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []Unreadable
	for _, u := range s.unreadable {
		if s.isNamed(&u) {
			out = append(out, u)
		}
	}
	slices.SortFunc(out, func(a, b Unreadable) int {
		return cmp.Or(cmp.Compare(a.Dot.Log.Origin, b.Dot.Log.Origin), cmp.Compare(a.Dot.Log.Epoch, b.Dot.Log.Epoch), cmp.Compare(a.Dot.Seq, b.Dot.Seq))
	})
	return out
}
