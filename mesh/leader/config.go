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

// tuning holds the election's times. They are one fleet's agreement: members
// with different ones still end with one leader, only later.
type tuning struct {
	Beat     time.Duration // between two heartbeats
	Silence  time.Duration // without a word from the leader before somebody takes over
	Stagger  time.Duration // more a better-ranked peer, so that two do not claim at once
	HandOver time.Duration // the stagger after a clean hand-over, where everybody knows at once
	Observe  time.Duration // between two heartbeats to Observers
	Remember time.Duration // for how long a former leader's session-id is kept
}

// defaultTuning is a beat each second, takeover after 3 s + rank·0.5 s.
func defaultTuning() tuning {
	return tuning{
		Beat:     time.Second,
		Silence:  3 * time.Second,
		Stagger:  500 * time.Millisecond,
		HandOver: 250 * time.Millisecond,
		Observe:  5 * time.Second,
		// A conductor that restarts numbers its sessions anew: an old id must not
		// be mistaken for somebody else's new session.
		Remember: time.Hour,
	}
}

// Config is what an Elector is made of.
type Config struct {
	Name     string
	Priority int // higher leads first

	// Observer is set on a member that is not configured to lead. It never
	// claims; it hears of the leader each tuning.Observe.
	Observer bool

	// now must carry a monotonic reading, as time.Now does, so that setting the
	// clock does not look like silence. Default time.Now.
	now func() time.Time

	// Peers returns the members, other than this one, that are alive and
	// configured to lead.
	Peers func() []Peer

	// Observers returns the names of the alive members that are not. Optional.
	Observers func() []string

	// Able reports whether this member could commit (conductor reachable,
	// credentials accepted, settled) and, if not, why. It is asked each beat and
	// must not block.
	Able func() (bool, string)

	// Send takes a payload of at most 1200 bytes to a member, best effort.
	Send func(to string, payload []byte) error

	// Ignore says whose words count for nothing: members that are not alive, may
	// not lead, or are blocked. It must not block. Optional.
	Ignore func(name string) bool

	// OnChange is called from Run, in order, with each change of leader, term or
	// own eligibility. It must not block. Optional.
	OnChange func(Status)

	Random rand.Source // of the number of the first message; nil: the system
	Logger *slog.Logger
	tuning tuning // zero: defaultTuning
}

// Validate names the first field that cannot be used.
func (c Config) Validate() error {
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

// Status is who leads, as this member knows it.
type Status struct {
	Leader   string // "" while nobody is known to lead
	Term     uint64
	Since    time.Time // since when Leader is what it is
	Self     bool      // this member leads
	Eligible bool      // this member could lead
	Why      string    // why it is not eligible
	Work     State     // what the leader last said it does
	detail   string
	until    time.Time // Work is Committing: when it gives up
}
