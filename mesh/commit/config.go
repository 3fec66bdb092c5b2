package commit

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"go4.org/netipx"

	"banmesh/mesh/conductor"
	"banmesh/store"
)

// replicatedSet is the part of the replicated set that a committer uses. *store.Store implements it.
type replicatedSet interface {
	Effective() iter.Seq[store.EffectiveBan]
	Gone(netip.Prefix) store.Gone
	PlacedBy(take func(origin string, p netip.Prefix) bool) map[netip.Prefix]store.PlacedEntry
	Place(ctx context.Context, prefixes []netip.Prefix, until store.Millis) error
	Unplace(ctx context.Context, prefixes []netip.Prefix) error
	UnplaceOwn(ctx context.Context, prefixes []netip.Prefix) error
	Exemptions() *netipx.IPSet
	Frozen() (frozen bool, by string)
}

// Work is what a committer reports to the election.
type Work uint8

// The kinds of work. WorkUnable: this member cannot commit, another one should.
const (
	WorkIdle Work = iota
	WorkCommitting
	WorkWaiting
	WorkUnable
)

// Config is what a Committer needs.
type Config struct {
	Name      string // of this member
	Set       replicatedSet
	Conductor Conductor // nil: nothing is committed, the state is off

	// Now is the mesh's time, for leases and events. It may jump; waits use the machine's monotonic clock. Default time.Now.
	Now func() time.Time

	Window           time.Duration // how long a change waits for company
	MaxWait          time.Duration // how long it waits at most, however many follow
	MinInterval      time.Duration // between commits once tuning.Burst is used up; lifts and allows do not wait for it
	Timeout          time.Duration // of each step: beginning and editing, committing, reading
	MaxAddresses     int           // in the tenant, foreign ones included; 0 = no limit
	MaxShrinkPercent int           // of the tenant that unconfirmed lifts and allows may take in one plan
	MaxGrowthPercent int           // of the tenant that may be added in an hour without a forced commit
	GrowthFloor      int           // this many may always be added

	Foreign struct {
		Remove bool          // false: foreign addresses are kept and shown
		After  time.Duration // since this member first saw it; forgotten when the agent restarts
	}

	// Aggregate joins neighbouring bans into fewer prefixes, exact to the address.
	Aggregate bool

	// Quorum tells whether enough members have reported a ban for the conductor to get it; it is called anew for each walk over
	// the bans. A prefix that is in the tenant stays while a ban of it lives. Nil: one member is enough.
	Quorum func() func(store.EffectiveBan) bool

	Leading     func() bool // this member leads; call LeaderChanged when it changes
	Ready       func() bool // this member has heard enough of the others to act. Nil: always
	ClocksAgree func() bool // the own clock agrees with the others', so that expiry may remove. Nil: always

	// Peers are the other known members. Nil: Placed records of every member count.
	Peers func() []Peer

	// spread waits, for at most a second, until another member holds the records that Place has just written. Nil: no wait.
	spread func(ctx context.Context) error

	// SetWork reports what the committer does: detail for people, the open edit's session (zero without one), and when it gives
	// up. It must not block. Optional.
	SetWork func(w Work, detail string, session conductor.SessionAt, until time.Time)

	// StaleSessions returns the sessions of former leaders that may be killed if they hold the lock. Optional.
	StaleSessions func() []conductor.SessionAt

	OnEvent func(Event) // must not block. Optional
	Logger  *slog.Logger
	Random  rand.Source // varies the times between attempts; nil: the system's randomness
	tuning  tuning      // zero: defaultTuning
}

// Peer is another member.
type Peer struct {
	Name    string
	MayLead bool // it is configured as eligible
	Failed  bool // it is not heard, though it may be alive
	Alive   bool
	Since   time.Time // when it came into its state
	Agreed  time.Time // when it was last known to hold the same records; zero for never
}

// tuning holds what nobody needs to set outside tests.
type tuning struct {
	ExpiryWait  time.Duration // how long expiries wait for company
	Burst       int           // commits that may follow each other at once
	Lease       time.Duration // of a Placed
	RenewBelow  time.Duration // what remains of a lease when the leader renews it
	RescueBelow time.Duration // what remains when any member renews it, because nobody leads
	Verify      time.Duration // between two readings of running by the leader
	Probe       time.Duration // between two readings by a member that could lead
	LoginWait   time.Duration // after refused credentials; doubled up to three times that
	Doubt       time.Duration // between two looks at whether a member that was away has removed what seems removed by hand
	ByHandWait  time.Duration // before what somebody removed by hand is added again; doubled each time
	AbsentWait  time.Duration // before a Placed is lifted that is neither wanted nor in the tenant
	MinBackoff  time.Duration // after a failure; doubled each time
	MaxBackoff  time.Duration
	StopGrace   time.Duration // for a commit under way when the agent stops
	Housekeep   time.Duration // between two looks at leases and at what is due by time only
	// MissingWait is how long a Placed without any known ban counts as one whose ban has not arrived yet. Every member
	// remembers a ban for two hours after its end, so that the ban cannot have been forgotten sooner.
	MissingWait time.Duration
	// ForeignWait is how long after an address was first seen in the tenant the record of its author may still arrive.
	ForeignWait time.Duration
}

// defaultTuning returns the values of normal operation.
func defaultTuning() tuning {
	return tuning{
		ExpiryWait:  5 * time.Minute,
		Burst:       3,
		Lease:       7 * 24 * time.Hour,
		RenewBelow:  84 * time.Hour,
		RescueBelow: 36 * time.Hour,
		Verify:      5 * time.Minute,
		Probe:       10 * time.Minute,
		LoginWait:   5 * time.Minute,
		Doubt:       time.Second,
		ByHandWait:  10 * time.Minute,
		AbsentWait:  10 * time.Minute,
		MinBackoff:  time.Second,
		MaxBackoff:  time.Minute,
		StopGrace:   3 * time.Second,
		Housekeep:   time.Minute,
		MissingWait: 2 * time.Hour,

		ForeignWait: 3 * time.Minute,
	}
}

// DefaultConfig returns the configuration's defaults; the functions are still to be set.
func DefaultConfig() Config {
	c := Config{
		Window:           2 * time.Second,
		MaxWait:          10 * time.Second,
		MinInterval:      30 * time.Second,
		Timeout:          90 * time.Second,
		MaxAddresses:     10000,
		MaxShrinkPercent: 50,
		MaxGrowthPercent: 200,
		GrowthFloor:      5000,
		tuning:           defaultTuning(),
	}
	c.Foreign.After = 24 * time.Hour
	return c
}

// validate names the first field that cannot be used.
func (c Config) validate() error {
	switch {
	case c.Set == nil || c.Leading == nil:
		return errors.New("commit: Set and Leading must be set")
	case c.Window < 0:
		return fmt.Errorf("commit: window %s is negative", c.Window)
	case c.MaxWait < c.Window:
		return fmt.Errorf("commit: max_wait %s is shorter than window %s", c.MaxWait, c.Window)
	case c.MinInterval < 0:
		return fmt.Errorf("commit: min_interval %s is negative", c.MinInterval)
	case c.Timeout <= 0:
		return fmt.Errorf("commit: timeout %s must be longer than 0", c.Timeout)
	case c.MaxAddresses < 0:
		return fmt.Errorf("commit: max_addresses %d is negative", c.MaxAddresses)
	case c.MaxShrinkPercent < 1 || c.MaxShrinkPercent > 100:
		return fmt.Errorf("commit: max_shrink_percent %d is not between 1 and 100", c.MaxShrinkPercent)
	case c.MaxGrowthPercent < 1:
		return fmt.Errorf("commit: max_growth_percent %d is less than 1", c.MaxGrowthPercent)
	case c.GrowthFloor < 0:
		return fmt.Errorf("commit: growth_floor %d is negative", c.GrowthFloor)
	case c.Foreign.After < 0:
		return fmt.Errorf("commit: remove_foreign_after %s is negative", c.Foreign.After)
	}
	t := c.tuning
	if t.Lease <= 0 || t.RenewBelow >= t.Lease || t.Verify <= 0 || t.Probe <= 0 || t.LoginWait <= 0 ||
		t.MinBackoff <= 0 || t.MaxBackoff < t.MinBackoff || t.Housekeep <= 0 || t.StopGrace < 0 ||
		t.ExpiryWait < 0 || t.Burst < 1 {
		return fmt.Errorf("commit: tuning %+v has a value that cannot be used", t)
	}
	return nil
}
