package commit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Conductor is the one tenant of the conductor's configuration that bans go to.
// All its methods honour ctx and may be called while an Edit is open.
type Conductor interface {
	// Begin connects (a list of conductors is tried in turn), takes the lock or
	// makes sure that the candidate is clean, and reads running's tenant.
	// Errors: ErrBusy, ErrLogin, ErrHostKey, ErrUnreachable, ErrWideOpen.
	Begin(ctx context.Context, p Permit) (Edit, error)

	// Read returns running's tenant, without a lock.
	// Errors: ErrLogin, ErrHostKey, ErrUnreachable.
	Read(ctx context.Context) (Running, error)

	// Features says what the server offers and which path is taken, for status;
	// "" before the first contact.
	Features() string

	Close() error
}

// Permit is what Begin may do to get at a lock that is not free.
type Permit struct {
	// Ours is asked where the candidate differs from running only in our tenant,
	// by these prefixes. If it says yes, exactly they are undone.
	Ours func(added, removed []netip.Prefix) bool

	// Kill holds sessions of former leaders that have fallen silent. One of them
	// may be killed when it holds the lock; no other session, ever.
	Kill []Session
}

// Session is an open edit. The id alone would not name it: each node of a
// conductor counts its own.
type Session struct {
	Node string // of the conductor, as in Running
	ID   uint64 // NETCONF session-id; 0: there is none
}

// Running is running's tenant.
type Running struct {
	Addresses []netip.Prefix // masked, in no order
	Exists    bool           // the tenant is there
	Conductor string         // address of the node that was read
}

// Edit is one exclusive change of the tenant: Apply, Commit, Close.
type Edit interface {
	// Running is the tenant as it was read under the lock.
	Running() Running

	// Session is the NETCONF session-id, 0 where there is none.
	Session() uint64

	// Apply edits only the difference and reads the candidate back. It creates
	// tenant, member and description where absent.
	// Errors: ErrRejected, ErrMismatch, ErrWideOpen, ErrBusy, ErrUnreachable, ErrUnknown.
	Apply(ctx context.Context, add, remove []netip.Prefix) error

	// Commit validates, commits and reads running back. Errors as Apply;
	// ErrUnknown when no answer tells whether the commit has taken effect.
	Commit(ctx context.Context) error

	// Close gives up what was not committed (own edits only), unlocks and closes
	// the session. It is called exactly once, also after an error.
	Close(ctx context.Context) error
}

// The errors of a Conductor that a committer tells apart.
var (
	ErrBusy        = errors.New("the conductor's configuration is in use")
	ErrLogin       = errors.New("the conductor refused the credentials")
	ErrHostKey     = errors.New("the conductor's host key is not the known one")
	ErrUnreachable = errors.New("no conductor can be reached")
	ErrUnknown     = errors.New("the outcome of the commit is unknown")
	ErrRejected    = errors.New("the conductor rejected the change")
	ErrMismatch    = errors.New("the conductor holds something else than what it was given")
	ErrWideOpen    = errors.New("the tenant holds 0.0.0.0/0 or ::/0")
)

// BusyError says who is in the way. errors.Is(err, ErrBusy) holds.
type BusyError struct {
	Holder uint64        // session-id of the lock's holder, 0 when not told
	Dirty  bool          // it is uncommitted changes of somebody else, not a lock
	After  time.Duration // the conductor asks to wait so long; 0 where it does not say
	Detail string        // the server's own words
}

// Error says whom the committer waits for.
func (e *BusyError) Error() string {
	s := ErrBusy.Error()
	switch {
	case e.Dirty:
		s = "waiting for uncommitted changes of another administrator"
	case e.Holder != 0:
		s = fmt.Sprintf("waiting for session %d", e.Holder)
	}
	if e.Detail != "" {
		s += " (" + e.Detail + ")"
	}
	return s
}

// Is makes errors.Is(err, ErrBusy) true.
func (e *BusyError) Is(target error) bool { return target == ErrBusy }
