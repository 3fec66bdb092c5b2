package restclient

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"banmesh/netconfclient/prefixset"
)

// Sentinels that callers branch on with errors.Is.
var (
	// ErrBusy: somebody else has uncommitted edits, a commit or validation is under way, a commit conflicted with
	// another one, or the conductor asks to wait. Nothing was changed; read again, plan again, later. The error is a
	// *BusyError.
	ErrBusy = errors.New("conductor is busy")
	// ErrLogin: the conductor refused user and password, or the token. Do not try again soon: the device locks
	// accounts out.
	ErrLogin = errors.New("conductor refused the login")
	// ErrForbidden: the login is good, but its role does not allow the call (403). Trying again does not help.
	ErrForbidden = errors.New("conductor does not allow this user the call")
	// ErrCertificate: the conductor's certificate is not the pinned one, not signed by the known authority, for another
	// name, or expired. The error is a *CertificateError, unless the file of the authority cannot be used.
	ErrCertificate = errors.New("certificate of the conductor is not trusted")
	// ErrSecretFile: the file of the password or the token cannot be used: absent, open to others, empty.
	ErrSecretFile = errors.New("secret file cannot be used")
	// ErrUnreachable: no connection, it was lost or timed out before a commit was sent, or the conductor answers 5xx.
	// Nothing was committed.
	ErrUnreachable = errors.New("conductor is unreachable")
	// ErrProtocol: what answered is no conductor's REST API: no JSON, cut off, too long, a redirect.
	ErrProtocol = errors.New("conductor did not answer as its REST API does")
	// ErrUnknownOutcome: no answer tells whether a commit that was sent took effect. It may still do so: read running
	// before judging.
	ErrUnknownOutcome = errors.New("outcome of the commit is unknown")
	// ErrRejected: the conductor refused the change. The error is a *RejectedError.
	ErrRejected = errors.New("conductor refused the change")
	// ErrMismatch: what the conductor holds is not what it was told. The error is a *MismatchError.
	ErrMismatch = errors.New("conductor holds something else than it was told")
	// ErrWideOpen: 0.0.0.0/0 or ::/0 is in the tenant or was to be put there: everybody would be banned.
	ErrWideOpen = errors.New("a prefix that covers every address is in the tenant")
	// ErrClosed: the Conductor or Edit was closed before.
	ErrClosed = errors.New("already closed")
)

// A StatusError is an answer whose HTTP status is no success. It is ErrLogin (401), ErrForbidden (403), ErrUnreachable
// (5xx) or ErrProtocol (3xx); a 409 and a 429 come inside a *BusyError, a refused change inside a *RejectedError.
type StatusError struct {
	Method, Path string
	Status       int
	Message      string        // what the conductor said, one line; "" where it said nothing readable
	RetryAfter   time.Duration // what Retry-After asks for; 0 where it is absent

	messages []string // the same, one by one
	page     bool     // what it said was HTML, for people
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s %s answered %d %s", e.Method, e.Path, e.Status, http.StatusText(e.Status))
	if e.Message != "" {
		s += ": " + e.Message
	}
	switch e.Status {
	case http.StatusForbidden:
		s += "; give the user's role the capabilities and the resource that this needs"
	case http.StatusNotFound:
		s += "; is this a conductor, and does its release have REST?"
	}
	return s
}

// Is makes a *StatusError the sentinel of its status.
func (e *StatusError) Is(target error) bool {
	switch {
	case e.Status == http.StatusUnauthorized:
		return target == ErrLogin
	case e.Status == http.StatusForbidden:
		return target == ErrForbidden
	case e.Status >= 500:
		return target == ErrUnreachable
	case e.Status < 400:
		return target == ErrProtocol
	}
	return false
}

// A BusyError says what is in the way. It is ErrBusy.
type BusyError struct {
	Dirty    bool          // the candidate holds uncommitted edits that are not ours
	Conflict bool          // another commit changed the same; the device has dropped our edits
	After    time.Duration // the conductor asks to wait so long; 0 where it does not say
	Detail   string        // what the conductor said, or where the candidate differs first
	Err      error         // the answer, where there is one
}

func (e *BusyError) Error() string {
	var s string
	switch {
	case e.Dirty:
		s = "waiting for uncommitted changes of another administrator"
	case e.Conflict:
		s = "another commit changed the same; reading and planning again"
	case e.After > 0:
		s = fmt.Sprintf("waiting %v, as the conductor asks for", e.After.Round(time.Second))
	default:
		s = "waiting for another administrator"
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

// A RejectedError carries every reason the conductor gave. It is ErrRejected.
type RejectedError struct {
	Step     string   // what was refused: "edit", "validate", "commit"
	Messages []string // at least one
	Err      error    // the answer, where its status was no success
}

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

// A MismatchError says how a datastore that was read back differs from what it should hold. It is ErrMismatch.
type MismatchError struct {
	Datastore  string         // "candidate" or "running"
	Missing    []netip.Prefix // told, but not there
	Unexpected []netip.Prefix // there, but not told
}

func (e *MismatchError) Error() string {
	var s []string
	if len(e.Missing) > 0 {
		s = append(s, fmt.Sprintf("%d missing (%s)", len(e.Missing), prefixset.Some(e.Missing)))
	}
	if len(e.Unexpected) > 0 {
		s = append(s, fmt.Sprintf("%d unexpected (%s)", len(e.Unexpected), prefixset.Some(e.Unexpected)))
	}
	return fmt.Sprintf("%s read back differs from what was told: %s", e.Datastore, strings.Join(s, ", "))
}

// Is makes a *MismatchError an ErrMismatch.
func (e *MismatchError) Is(target error) bool { return target == ErrMismatch }

// mismatch compares what is wanted with what was read.
func mismatch(store string, want, got []netip.Prefix) error {
	missing, unexpected := prefixset.Minus(want, got), prefixset.Minus(got, want)
	if len(missing) == 0 && len(unexpected) == 0 {
		return nil
	}
	return &MismatchError{Datastore: store, Missing: missing, Unexpected: unexpected}
}

// refuseWideOpen names the first prefix that covers everything.
func refuseWideOpen(where string, ps []netip.Prefix) error {
	for _, p := range ps {
		if prefixset.WideOpen(p) {
			return fmt.Errorf("%w: %s in %s", ErrWideOpen, p, where)
		}
	}
	return nil
}
