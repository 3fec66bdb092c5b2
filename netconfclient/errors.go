package netconfclient

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"banmesh/netconfclient/prefixset"
)

// Sentinels that callers branch on with errors.Is.
var (
	// ErrBusy: somebody else holds the lock or has uncommitted edits. Nothing was changed; try again later.
	// The error is a *BusyError.
	ErrBusy = errors.New("conductor is busy")
	// ErrLogin: the conductor refused the key or the user. Do not try again soon: the device locks accounts out.
	ErrLogin = errors.New("conductor refused the login")
	// ErrHostKey: the conductor's host key is unknown, changed or revoked. The error is a *HostKeyError.
	ErrHostKey = errors.New("host key of the conductor is not trusted")
	// ErrKeyFile: the private key cannot be used: absent, open to others, malformed or protected by a passphrase.
	ErrKeyFile = errors.New("private key cannot be used")
	// ErrUnreachable: no connection, or it was lost or timed out before a commit was sent. Nothing was committed.
	ErrUnreachable = errors.New("conductor is unreachable")
	// ErrProtocol: the server broke the protocol: framing, message-id, XML, size. The connection is closed.
	ErrProtocol = errors.New("conductor broke the NETCONF protocol")
	// ErrUnknownOutcome: the connection was lost or timed out after a commit was sent. It may have taken effect, or
	// may still do so: read running before judging. The connection is closed.
	ErrUnknownOutcome = errors.New("outcome of the commit is unknown")
	// ErrRejected: the conductor refused the change. The error is a *RejectedError.
	ErrRejected = errors.New("conductor refused the change")
	// ErrMismatch: what the conductor holds is not what it was told. The error is a *MismatchError.
	ErrMismatch = errors.New("conductor holds something else than it was told")
	// ErrWideOpen: 0.0.0.0/0 or ::/0 is in the tenant or was to be put there: everybody would be banned.
	ErrWideOpen = errors.New("a prefix that covers every address is in the tenant")
	// ErrClosed: the Conductor, Session or Edit was closed before.
	ErrClosed = errors.New("already closed")
)

// A BusyError says who is in the way. It is ErrBusy.
type BusyError struct {
	Holder uint64 // session-id of who holds the lock; 0 where the server does not say, or it is no NETCONF session
	Dirty  bool   // the candidate holds uncommitted edits that are not ours
	Detail string // what the server said, or where the candidate differs first
}

func (e *BusyError) Error() string {
	var s string
	switch {
	case e.Holder != 0:
		s = fmt.Sprintf("waiting for session %d, which holds the lock", e.Holder)
	case e.Dirty:
		s = "waiting for uncommitted changes of another administrator"
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

// A RejectedError carries every reason the server gave. It is ErrRejected.
type RejectedError struct {
	Step   string // the operation that was refused: "edit-config", "validate", "commit"
	Errors RPCErrors
}

func (e *RejectedError) Error() string { return fmt.Sprintf("%s refused: %v", e.Step, e.Errors) }

// Is makes a *RejectedError an ErrRejected.
func (e *RejectedError) Is(target error) bool { return target == ErrRejected }

// Unwrap gives the server's errors to errors.As.
func (e *RejectedError) Unwrap() error { return e.Errors }

// A MismatchError says how a datastore that was read back differs from what it should hold. It is ErrMismatch.
type MismatchError struct {
	Datastore  Datastore
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

// refuseWideOpen names the first prefix that covers everything.
func refuseWideOpen(where string, ps []netip.Prefix) error {
	for _, p := range ps {
		if prefixset.WideOpen(p) {
			return fmt.Errorf("%w: %s in %s", ErrWideOpen, p, where)
		}
	}
	return nil
}
