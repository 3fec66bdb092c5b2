package commit

import (
	"errors"
	"net/netip"
	"time"
)

// Urgency says why a committer is notified, and thereby how long the change may wait.
type Urgency uint8

// The urgencies.
const (
	Addition Urgency = iota // a ban came, or a freeze ended
	Removal                 // a lift, an allow, a never-ban: somebody waits for access
	Expiry                  // a ban ran out
	urgencies
)

// State is what a committer does, in one word.
type State string

// The states, as status shows them.
const (
	StateIdle       State = "idle"
	StatePending    State = "pending"    // there is something to commit
	StateCommitting State = "committing" // an edit is under way
	StateWaiting    State = "waiting"    // for somebody else's lock or edits
	StateFailing    State = "failing"    // the last attempt failed, or the conductor cannot be reached
	StateFrozen     State = "frozen"
	StateOff        State = "off" // no conductor is configured
)

// Status is a committer's state. On a member that does not lead, the pending counts come from what leaders have placed.
type Status struct {
	State         State
	Detail        string // whom it waits for, or what fails
	Committed     int    // addresses of ours in the tenant, as last read
	PendingAdd    int
	PendingRemove int
	Foreign       int // addresses in the tenant that no member placed, as last read
	Held          int // removals and additions held for a forced commit
	Commits       uint64
	LastCommit    time.Time // zero: none yet
	LastError     string    // of the last attempt; "" after a success
	Features      string    // what the conductor offers and how it is used
	ReadAt        time.Time // when this member last read the tenant; zero: never, and Committed is not known
	Able          bool
	Why           string // why it is not able
	Warnings      []string
}

// Result is what a commit did.
type Result struct {
	Plan Plan          // Add and Remove are what was committed
	Took time.Duration // 0 if there was nothing to commit
}

// EventKind tells events apart.
type EventKind string

// The kinds of event.
const (
	EventCommit   EventKind = "commit"    // Add and Remove are in running
	EventError    EventKind = "error"     // an attempt failed in another way than the one before
	EventByHand   EventKind = "by-hand"   // somebody has removed Remove by hand
	EventReset    EventKind = "reset"     // the tenant was replaced: Remove is gone from it and comes back with the next commit
	EventHeld     EventKind = "held"      // Add and Remove are held for a forced commit
	EventForeign  EventKind = "foreign"   // Add is in the tenant and no member placed it
	EventWideOpen EventKind = "wide-open" // the tenant would match everybody
)

// Event is something that happened at the conductor.
type Event struct {
	Time        time.Time
	Kind        EventKind
	Add, Remove []netip.Prefix
	Detail      string
	Took        time.Duration
}

// The errors of CommitNow and Plan.
var (
	ErrOff       = errors.New("no conductor is configured (commit.driver is none)")
	ErrNotLeader = errors.New("this member does not lead: run it where the leader is")
	ErrNotReady  = errors.New("not settled yet: too little has been heard of the other members")
	ErrBarred    = errors.New("not tried again yet, see status: refused credentials lock the account")
	errStopped   = errors.New("the committer has stopped")
	errLost      = errors.New("leadership was lost")
)
