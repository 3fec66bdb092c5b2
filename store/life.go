package store

import (
	"encoding/binary"
	"time"
)

// A lift is kept for as long as a ban of its offences can live, so that no prolongation that comes late brings back what was
// lifted. That is up to the member that gives the bans, whose bans.max_duration may be another: members tell each other, and
// the longest counts from then on, also after a restart.

const (
	lifeKey = "longest-life"
	// uncapped is how long a ban is taken to live where nothing caps it: what the shipped configuration says.
	uncapped = 30 * 24 * hour
	// maxToldLife bounds for how long others can have lifts kept here.
	maxToldLife = 400 * 24 * hour
)

// lifeOf is how long after the start of its offence a ban may live at most under a bans.max_duration.
func lifeOf(maxDuration time.Duration) Millis {
	if maxDuration > 0 {
		return Millis(maxDuration.Milliseconds())
	}
	return uncapped
}

// HeardMaxDuration takes in what another member says of its bans.max_duration; 0 is none.
func (s *Store) HeardMaxDuration(d time.Duration) {
	if d < 0 {
		return
	}
	life := min(lifeOf(d), maxToldLife)
	s.mu.Lock()
	longer := life > s.life
	if longer {
		s.life = life
	}
	s.mu.Unlock()
	if longer {
		s.later(func(p *plan) error {
			p.meta[lifeKey] = binary.BigEndian.AppendUint64(nil, uint64(life))
			p.used = true
			return nil
		})
	}
}

// loadLife reads the longest life that was ever told.
func (s *Store) loadLife() {
	s.life = lifeOf(s.cfg.MaxDuration)
	if b := s.meta[lifeKey]; len(b) == 8 {
		s.life = max(s.life, min(Millis(binary.BigEndian.Uint64(b)), maxToldLife))
	}
}
