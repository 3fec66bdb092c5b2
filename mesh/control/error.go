package control

import (
	"errors"
	"fmt"
)

// Code is the kind of failure of an Error, for programs.
type Code string

// The codes, with the HTTP status that carries each.
const (
	CodeInvalid     Code = "invalid"     // 400: the call itself is wrong; repeating it does not help
	CodeDenied      Code = "denied"      // 403: not for this caller
	CodeNotFound    Code = "not_found"   // 404: no such thing, or no such path in this version of the agent
	CodeConflict    Code = "conflict"    // 409: not in this state: another leader, frozen, must be forced or confirmed
	CodeTooLarge    Code = "too_large"   // 413: more than one call may carry
	CodeInternal    Code = "failed"      // 500: tried, but failed
	CodeUnavailable Code = "unavailable" // 503: not now: starting, stopping, disk failing
)

// Error is a refusal or failure as it travels: the agent returns one (other errors become CodeInternal), and the client
// receives it.
type Error struct {
	Message string `json:"error"`
	Code    Code   `json:"code"`
}

func (e *Error) Error() string { return e.Message }

// Errorf returns an Error, whose text says what failed, on what, and what to do.
func Errorf(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Message: fmt.Sprintf(format, args...)}
}

// ErrNoAgent says that nothing answers on the socket, or not in time. It is then unknown whether the call had its effect.
var ErrNoAgent = errors.New("no agent reachable")

// ErrNoAnswer is an ErrNoAgent: somebody listens on the socket but does not answer in time.
var ErrNoAnswer error = noAnswer{}

// NoneRuns reports whether a call failed because no agent runs. One that does not answer does run, and holds what is its own.
func NoneRuns(err error) bool { return errors.Is(err, ErrNoAgent) && !errors.Is(err, ErrNoAnswer) }

type noAnswer struct{}

func (noAnswer) Error() string        { return ErrNoAgent.Error() }
func (noAnswer) Is(target error) bool { return target == ErrNoAgent }
