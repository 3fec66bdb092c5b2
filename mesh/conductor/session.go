package conductor

import (
	"context"
	"net/netip"
)

// Datastore names a configuration.
type Datastore string

// The datastores.
const (
	RunningStore   Datastore = "running"
	CandidateStore Datastore = "candidate"
)

// SessionAt names a session: each node of a conductor numbers its own.
type SessionAt struct {
	Node string // as configured
	ID   uint64 // NETCONF session-id; 0: there is none
}

// Candidate says whose the candidate is that a session edits.
type Candidate int

// The kinds of Candidate.
const (
	SharedCandidate  Candidate = iota // one for all administrators, and for all nodes
	NodeCandidate                     // one for all administrators, perhaps of each node
	PrivateCandidate                  // the account's own: nobody else edits it, unless a person uses that account
	NoCandidate                       // writes take effect at once
)

// A Session speaks to one node of a conductor. Each method bounds its own time, and what it fails with is one of this
// package's errors. What the server cannot do is errors.ErrUnsupported: that is remembered, and not asked for again while
// Identity stays the same.
type Session interface {
	At() SessionAt
	// Identity changes with what the server is, so that what was learned of another release is forgotten.
	Identity() string
	// Features says in one line what the server offers and how it is spoken to; lacks are what it turned out not to do.
	Features(lacks Abilities) string
	Candidate() Candidate
	// Warnings are what an operator has to know of the server, and to do about it.
	Warnings() []string

	// Lock takes the lock of what is edited. Its refusal is a *LockedError.
	Lock(ctx context.Context) error
	Unlock(ctx context.Context) error
	// Kill ends another session and frees its lock.
	Kill(ctx context.Context, id uint64) error

	// Read reads our tenant.
	Read(ctx context.Context, store Datastore) (*Tenant, error)
	// Compare compares candidate and running whole, by one picture of each.
	Compare(ctx context.Context) (*Difference, error)
	// Write makes a change of what is edited, which holds now, and returns what it holds then. A commit's worth of change
	// that was sent without an answer, where there is no candidate, is ErrUnknown.
	Write(ctx context.Context, now *Tenant, c Change) (*Tenant, error)

	// Validate has the server check the candidate, where the configuration wants that as a step of its own.
	Validate(ctx context.Context) error
	// Commit makes the candidate running. ErrUnknown where no answer tells what became of it.
	Commit(ctx context.Context) error
	// Discard makes the candidate a copy of running. It is called under our own lock only, or for a PrivateCandidate that
	// nobody edits with our account.
	Discard(ctx context.Context) error

	// Denied lists the enabled services of running that deny our tenant, sorted.
	Denied(ctx context.Context) ([]string, error)
	// Cut ends the live traffic sessions of sources, and returns how many.
	Cut(ctx context.Context, sources []netip.Prefix) (int, error)

	// Alive reports whether the session can still be used.
	Alive() bool
	// Close ends the session. A second Close does nothing.
	Close(ctx context.Context) error
}

// A Driver opens sessions with the nodes of one conductor.
type Driver interface {
	Nodes() []string
	// Open opens a session with one node, by its index, and makes sure that it answers.
	Open(ctx context.Context, node int) (Session, error)
	Close() error
}

// ability is what a server may turn out not to have.
type ability string

// The abilities.
const (
	AbilityLock     ability = "lock"
	AbilityDiscard  ability = "discard"
	AbilityValidate ability = "validate"
)

// Abilities is a set of them.
type Abilities map[ability]bool

// A LockedError is the refusal of a lock.
type LockedError struct {
	Holder      uint64 // session-id of who has it, 0 when not told
	Uncommitted bool   // the server says that the candidate holds uncommitted edits
	Unclear     bool   // it does not say why; that may be the reason
	Err         error
}

func (e *LockedError) Error() string { return "the lock is refused: " + e.Err.Error() }

// Unwrap gives the answer to errors.As.
func (e *LockedError) Unwrap() error { return e.Err }

// Is makes a *LockedError an ErrBusy.
func (e *LockedError) Is(target error) bool { return target == ErrBusy }

// A Change is one change of our tenant. What is to be added is not there, what is to be removed is.
type Change struct {
	Add, Remove []netip.Prefix
	Describe    string // the description to give; "" leaves it alone

	// Like is where a prefix that is put back, and a member that is made anew, are taken from; nil: from nowhere.
	Like *Tenant

	// Deleting is called before a member is deleted to be made anew, where the API cannot replace it; nil: nobody asks.
	Deleting func()

	// What goes whole, when exactly our own creation of it is undone.
	DropTenant, DropMember, DropDescription bool
}

// Empty reports whether there is nothing to write.
func (c Change) Empty() bool {
	return len(c.Add) == 0 && len(c.Remove) == 0 && c.Describe == "" && !c.DropTenant && !c.DropMember && !c.DropDescription
}
