package leader

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Peer is another member that may lead.
type Peer struct {
	Name     string
	Priority int
}

// tuning holds the times of the election. All members should use the same; with different ones they still end up with one
// leader, only later.
type tuning struct {
	Beat    time.Duration // between two heartbeats
	Silence time.Duration // how long a leader may say nothing before another member takes over
	// Longer than a round trip: the second-ranked hears the first one's claim before its own turn.
	Stagger  time.Duration // added per better-ranked peer, so that two do not claim at once
	HandOver time.Duration // the stagger after a clean hand-over, which everybody hears of at once
	Observe  time.Duration // between two heartbeats to Observers
	Remember time.Duration // how long a former leader's session-id is kept
}

// defaultTuning beats each second and takes over after 3 s + rank·0.5 s.
func defaultTuning() tuning {
	return tuning{
		Beat:     time.Second,
		Silence:  3 * time.Second,
		Stagger:  500 * time.Millisecond,
		HandOver: 250 * time.Millisecond,
		Observe:  5 * time.Second,
		// A conductor that restarts counts its sessions from the start again: an old id must not name somebody else's new
		// session.
		Remember: time.Hour,
	}
}

// Config configures an Elector.
type Config struct {
	Name     string
	Priority int // higher leads first

	// Observer is set on a member that is not configured to lead. It never claims, and hears of the leader each
	// tuning.Observe.
	Observer bool

	// now must carry a monotonic reading, as time.Now does, so that setting the clock does not look like silence. Nil is
	// time.Now.
	now func() time.Time

	// Peers returns the members, other than this one, that are alive and
	// configured to lead.
	Peers func() []Peer

	// Observers returns the names of the alive members that are not configured to lead. Optional.
	Observers func() []string

	// Able reports whether this member could commit (conductor reachable, credentials accepted, settled) and, if not, why. It
	// is asked on each beat and must not block.
	Able func() (bool, string)

	// Send sends a payload of at most 1200 bytes to a member, best effort.
	Send func(to string, payload []byte) error

	// Ignore reports whether to ignore a member's messages: it is not alive, may not lead, or is blocked. It must not block.
	// Optional.
	Ignore func(name string) bool

	// OnChange is called from Run, in order, with each change of leader, term or own eligibility. It must not block.
	// Optional.
	OnChange func(Status)

	Random rand.Source // for the number of the first message; nil uses the system's
	Logger *slog.Logger
	tuning tuning // zero: defaultTuning
}

// validate returns an error that names the first unusable field.
func (c Config) validate() error {
	switch {
	case c.Name == "" || len(c.Name) > maxName:
		return fmt.Errorf("leader: name %q must have 1 to %d bytes", c.Name, maxName)
	case c.Peers == nil || c.Able == nil || c.Send == nil:
		return errors.New("leader: Peers, Able and Send must be set")
	case c.tuning.Beat <= 0 || c.tuning.Silence <= c.tuning.Beat:
		return fmt.Errorf("leader: silence %s must be longer than beat %s", c.tuning.Silence, c.tuning.Beat)
	case c.tuning.Stagger < 0 || c.tuning.HandOver < 0 || c.tuning.Observe <= 0 || c.tuning.Remember <= 0:
		return fmt.Errorf("leader: tuning %+v has a negative or missing time", c.tuning)
	}
	return nil
}

// Status says who leads, as far as this member knows.
type Status struct {
	Leader   string // "" while nobody is known to lead
	Term     uint64
	Since    time.Time // when Leader last changed
	Self     bool      // this member leads
	Eligible bool      // this member could lead
	Why      string    // why it is not eligible
	Work     State     // the leader's last announced state
	detail   string
	until    time.Time // if Work is Committing: when it gives up
}
