package conductor

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/mesh/conductor/prefixset"
)

// Sentinels that callers branch on with errors.Is.
var (
	// ErrBusy: somebody else holds the lock or has uncommitted edits, a commit or validation is under way, another commit
	// conflicted with ours, or the conductor asks to wait. Nothing was changed. The error is a *BusyError.
	ErrBusy = errors.New("the conductor's configuration is in use")
	// ErrLogin: the conductor refused the credentials. Do not retry soon: the device locks accounts out.
	ErrLogin = errors.New("the conductor refused the credentials")
	// ErrForbidden: the login works, but its role does not allow the call. Each try is a login, so it is an ErrLogin.
	ErrForbidden = Kind("the conductor does not allow this user the call", ErrLogin)
	// ErrSecret: the file of the key, the password or the token cannot be used. It is an ErrLogin.
	ErrSecret = Kind("the file of the credentials cannot be used", ErrLogin)
	// ErrHostKey: the conductor's host key or certificate is not the known one.
	ErrHostKey = errors.New("the conductor's host key is not the known one")
	// ErrUnreachable: no connection, or it was lost or timed out before a commit was sent. Nothing was committed.
	ErrUnreachable = errors.New("no conductor can be reached")
	// ErrProtocol: the server does not talk like a conductor. It is an ErrUnreachable.
	ErrProtocol = Kind("the conductor did not answer as its protocol has it", ErrUnreachable)
	// ErrUnknown: no answer tells whether a commit took effect, or running does not show a commit that was answered with
	// success. The commit may still take effect: read running before judging.
	ErrUnknown = errors.New("the outcome of the commit is unknown")
	// ErrUnseen: a commit was answered with success, and running did not show it in time. It is an ErrUnknown.
	ErrUnseen = Kind("the commit was answered with success, and running did not show it in time", ErrUnknown)
	// ErrRejected: the conductor refused the change. The error is a *RejectedError.
	ErrRejected = errors.New("the conductor rejected the change")
	// ErrMismatch: the conductor holds something other than what it was given.
	ErrMismatch = errors.New("the conductor holds something else than what it was given")
	// ErrWideOpen: 0.0.0.0/0 or ::/0 is in the tenant or was to be added to it, which would ban everybody.
	ErrWideOpen = errors.New("the tenant holds 0.0.0.0/0 or ::/0")
	// ErrClosed: the Conductor or Edit is already closed.
	ErrClosed = errors.New("already closed")
)

// Kind returns a sentinel that is also another one.
func Kind(text string, is error) error { return &kind{text, is} }

// kind is a sentinel error that also matches a wider one.
type kind struct {
	text string
	is   error
}

func (k *kind) Error() string { return k.text }
func (k *kind) Unwrap() error { return k.is }

// A BusyError says what stands in the way. It is an ErrBusy.
type BusyError struct {
	Holder   uint64        // session-id of the lock's holder, 0 when not told
	Dirty    bool          // the candidate holds uncommitted edits that are not ours
	Conflict bool          // another commit changed the same; the device has dropped our edits
	After    time.Duration // how long the conductor asks to wait; 0 if it does not say
	Detail   string        // the server's own words, or the first place where the candidate differs
	Err      error         // the error behind it, if any
}

// Error says what is waited for, since nothing is wrong: the committer shows it beside the state.
func (e *BusyError) Error() string {
	var s string
	switch {
	case e.Holder != 0:
		s = fmt.Sprintf("waiting for session %d, which holds the lock", e.Holder)
	case e.Dirty:
		s = "waiting for uncommitted changes of another administrator"
	case e.Conflict:
		s = "another commit changed the same; reading and planning again"
	case e.After > 0:
		s = fmt.Sprintf("waiting %v, as the conductor asks for", e.After.Round(time.Second))
	default:
		s = "waiting for the conductor"
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Is makes a *BusyError an ErrBusy.
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

// Unwrap gives the answer to errors.As.
func (e *BusyError) Unwrap() error { return e.Err }

// A RejectedError carries every reason that the conductor gave. It is an ErrRejected.
type RejectedError struct {
	Step     string   // what was refused: "edit", "validate", "commit"
	Messages []string // at least one
	Err      error    // the error behind it; nil if the words came with success
}

// Error shows a few of the server's messages. There can be one for each address.
func (e *RejectedError) Error() string {
	const few = 3
	s := strings.Join(e.Messages[:min(few, len(e.Messages))], "; ")
	if n := len(e.Messages) - few; n > 0 {
		s += fmt.Sprintf("; and %d more", n)
	}
	return e.Step + " refused: " + s
}

// Is makes a *RejectedError an ErrRejected.
func (e *RejectedError) Is(target error) bool { return target == ErrRejected }

// Unwrap gives the answer to errors.As.
func (e *RejectedError) Unwrap() error { return e.Err }

// A mismatchError says how a datastore that was read back differs from what it should hold. It is an ErrMismatch.
type mismatchError struct {
	Datastore  Datastore
	Missing    []netip.Prefix // told, but not there
	Unexpected []netip.Prefix // there, but not told
}

func (e *mismatchError) Error() string {
	var s []string
	if len(e.Missing) > 0 {
		s = append(s, fmt.Sprintf("%d missing (%s)", len(e.Missing), prefixset.Some(e.Missing)))
	}
	if len(e.Unexpected) > 0 {
		s = append(s, fmt.Sprintf("%d unexpected (%s)", len(e.Unexpected), prefixset.Some(e.Unexpected)))
	}
	return fmt.Sprintf("%s read back differs from what was told: %s", e.Datastore, strings.Join(s, ", "))
}

// Is makes a *mismatchError an ErrMismatch.
func (e *mismatchError) Is(target error) bool { return target == ErrMismatch }

// mismatch compares the wanted prefixes with those that were read.
func mismatch(store Datastore, want, got []netip.Prefix) error {
	missing, unexpected := prefixset.Minus(want, got), prefixset.Minus(got, want)
	if len(missing) == 0 && len(unexpected) == 0 {
		return nil
	}
	return &mismatchError{Datastore: store, Missing: missing, Unexpected: unexpected}
}

// refuseWideOpen refuses prefixes that cover every address, naming the first.
func refuseWideOpen(where string, ps []netip.Prefix) error {
	for _, p := range ps {
		if prefixset.WideOpen(p) {
			return fmt.Errorf("%w: %s in %s", ErrWideOpen, p, where)
		}
	}
	return nil
}

// OneLine makes foreign text safe for a log and a terminal: one short line without control characters.
func OneLine(s string) string {
	return excerpt.Line(s, 300)
}
