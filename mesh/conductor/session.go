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
	ID   uint64 // NETCONF session-id, 0 if there is none
}

// Candidate says who shares the candidate that a session edits.
type Candidate int

// The kinds of Candidate.
const (
	SharedCandidate  Candidate = iota // one for all administrators, and for all nodes
	NodeCandidate                     // one for all administrators, possibly one per node
	PrivateCandidate                  // the account's own: nobody else edits it, unless a person uses the same account
	NoCandidate                       // writes take effect at once
)

// A Session talks to one node of a conductor. Each method bounds its own time and fails with one of this package's errors.
// For an operation that the server lacks, that is errors.ErrUnsupported: the Conductor remembers it and does not ask again
// while Identity stays the same.
type Session interface {
	At() SessionAt
	// Identity changes with the server's software, so that what was learned about another release is forgotten.
	Identity() string
	// Features says in one line what the server offers and how it is edited; lacks are the abilities it was found not to
	// have.
	Features(lacks Abilities) string
	Candidate() Candidate
	// Warnings returns what an operator must know about the server, and what to do about it.
	Warnings() []string

	// Lock locks the datastore to edit. A refusal is a *LockedError.
	Lock(ctx context.Context) error
	Unlock(ctx context.Context) error
	// Kill ends another session and frees its lock.
	Kill(ctx context.Context, id uint64) error

	// Read reads our tenant.
	Read(ctx context.Context, store Datastore) (*Tenant, error)
	// Compare compares the whole of candidate and running, from one reading of each.
	Compare(ctx context.Context) (*Difference, error)
	// Write changes the edited datastore, whose content is now, and returns its content after that. Without a candidate, a
	// change that was sent but not answered is ErrUnknown.
	Write(ctx context.Context, now *Tenant, c Change) (*Tenant, error)

	// Validate has the server check the candidate, if the configuration asks for that as a separate step.
	Validate(ctx context.Context) error
	// Commit makes the candidate running. It is ErrUnknown if no answer tells what became of it.
	Commit(ctx context.Context) error
	// Discard resets the candidate to running. It is called only under our own lock, for a PrivateCandidate that nobody else
	// edits with our account, or for a NodeCandidate that holds no edit and is behind running.
	Discard(ctx context.Context) error

	// Denied lists the enabled services of running that deny our tenant, sorted.
	Denied(ctx context.Context) ([]string, error)
	// Cut ends the live traffic sessions of the sources and returns how many it ended.
	Cut(ctx context.Context, sources []netip.Prefix) (int, error)

	// Alive reports whether the session can still be used.
	Alive() bool
	// Close ends the session. A second Close does nothing.
	Close(ctx context.Context) error
}

// A Driver opens sessions with the nodes of one conductor.
type Driver interface {
	Nodes() []string
	// Open opens a session with the node of that index and makes sure that it answers.
	Open(ctx context.Context, node int) (Session, error)
	Close() error
}

// ability names an operation that a server may lack.
type ability string

// The abilities.
const (
	AbilityLock     ability = "lock"
	AbilityDiscard  ability = "discard"
	AbilityValidate ability = "validate"
)

// Abilities is a set of abilities.
type Abilities map[ability]bool

// A LockedError says why a lock was refused.
type LockedError struct {
	Holder      uint64 // session-id of the lock's holder, 0 if not told
	Uncommitted bool   // the server says that the candidate holds uncommitted edits
	Unclear     bool   // the server gives no reason; uncommitted edits may be the one
	Err         error
}

func (e *LockedError) Error() string { return "the lock is refused: " + e.Err.Error() }

// Unwrap gives the answer to errors.As.
func (e *LockedError) Unwrap() error { return e.Err }

// Is makes a *LockedError an ErrBusy.
func (e *LockedError) Is(target error) bool { return target == ErrBusy }

// A Change is one change of our tenant. Add holds only prefixes that are not there, Remove only prefixes that are.
type Change struct {
	Add, Remove []netip.Prefix
	Describe    string // the description to give; "" leaves it alone

	// Like is the tenant to copy the spelling of restored prefixes and the rest of a re-created member from; nil for none.
	Like *Tenant

	// Deleting is called before a member is deleted to be created again, where the API cannot replace it. It may be nil.
	Deleting func()

	// Set to undo exactly our own creation of the tenant, member or description.
	DropTenant, DropMember, DropDescription bool
}

// Empty reports whether there is nothing to write.
func (c Change) Empty() bool {
	return len(c.Add) == 0 && len(c.Remove) == 0 && c.Describe == "" && !c.DropTenant && !c.DropMember && !c.DropDescription
}
