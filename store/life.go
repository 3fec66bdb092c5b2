package store

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"banmesh/store/text"
)

// A lift is kept for as long as a ban of its offences can live, so that no late prolongation revives what was lifted. That time
// depends on bans.max_duration of the member that bans, so members tell each other theirs, and the longest counts. It also
// counts after a restart, until the member has been silent about it for a month, states another one or is blocked.

const (
	livesKey = "longest-lives"
	// uncapped is how long a ban is assumed to live without a cap: the max_duration of the shipped configuration.
	uncapped = 30 * 24 * hour
	// maxToldLife bounds how long other members can make lifts be kept here.
	maxToldLife = 400 * 24 * hour
	// maxLives bounds how many statements are remembered: only the longest counts.
	maxLives = 16
	// lifeRemembered is how long a statement counts. Members repeat theirs every minute.
	lifeRemembered = 30 * 24 * hour
	// lifeFresh is how long a repeated statement is not saved again.
	lifeFresh = 24 * hour
)

// toldLife is another member's bans.max_duration, and when it stated it.
type toldLife struct {
	name        string
	life, heard Millis
}

// lifeOf is how long after the start of its offence a ban may live at most under a bans.max_duration.
func lifeOf(maxDuration time.Duration) Millis {
	if maxDuration > 0 {
		return Millis(maxDuration.Milliseconds())
	}
	return uncapped
}

// HeardMaxDuration records another member's bans.max_duration; 0 means no cap.
func (s *Store) HeardMaxDuration(name string, d time.Duration) {
	if d < 0 || text.CheckName(name) != nil {
		return
	}
	s.mu.Lock()
	lives, news := s.hearLife(toldLife{name, min(lifeOf(d), maxToldLife), s.now()})
	s.lives = lives
	s.mu.Unlock()
	if news {
		b := encodeLives(lives)
		s.later(func(p *plan) error {
			p.meta[livesKey] = b
			p.used = true
			return nil
		})
	}
}

// hearLife adds a statement to those that are remembered and drops those that no longer count. Called with mu held.
func (s *Store) hearLife(told toldLife) (lives []toldLife, news bool) {
	for _, l := range s.lives {
		switch {
		case l.name == told.name && l.life == told.life && l.heard <= told.heard && told.heard-l.heard < lifeFresh:
			return s.lives, false
		case l.name != told.name && s.lifeCounts(l, told.heard):
			lives = append(lives, l)
		}
	}
	if told.life > lifeOf(s.cfg.MaxDuration) && s.lifeCounts(told, told.heard) {
		lives = append(lives, told)
	}
	slices.SortStableFunc(lives, func(a, b toldLife) int { return cmp.Compare(b.life, a.life) })
	lives = lives[:min(len(lives), maxLives)]
	return lives, !slices.Equal(lives, s.lives)
}

// lifeCounts reports whether a statement counts. Called with mu held.
func (s *Store) lifeCounts(l toldLife, now Millis) bool {
	return now-l.heard < lifeRemembered && !s.set.ignores(l.name)
}

// life is how long after its start a ban may live at any member. Called with mu held.
func (s *Store) life() Millis {
	now, longest := s.now(), lifeOf(s.cfg.MaxDuration)
	for _, l := range s.lives {
		if s.lifeCounts(l, now) {
			longest = max(longest, l.life)
		}
	}
	return longest
}

// encodeLives relies on names of at most 255 bytes (text.MaxName): their length takes one byte.
func encodeLives(lives []toldLife) []byte {
	var b []byte
	for _, l := range lives {
		b = append(append(b, byte(len(l.name))), l.name...)
		b = binary.BigEndian.AppendUint64(b, uint64(l.life))
		b = binary.BigEndian.AppendUint64(b, uint64(l.heard))
	}
	return b
}

// loadLives reads the statements saved by earlier runs.
func (s *Store) loadLives() {
	for b := s.meta[livesKey]; len(b) > 0; {
		n := 1 + int(b[0])
		if len(b) < n+16 || len(s.lives) == maxLives {
			return
		}
		life, heard := Millis(binary.BigEndian.Uint64(b[n:])), Millis(binary.BigEndian.Uint64(b[n+8:]))
		s.lives = append(s.lives, toldLife{string(b[1:n]), max(0, min(life, maxToldLife)), heard})
		b = b[n+16:]
	}
}
