package control

import (
	"errors"
	"fmt"
	"net/http"
)

// Code says what kind of failure an Error is, for programs.
type Code string

// The codes, with the HTTP status that carries each.
const (
	CodeInvalid     Code = "invalid"     // 400: the call itself is wrong; repeating it does not help
	CodeDenied      Code = "denied"      // 403: not for this caller
	CodeNotFound    Code = "not_found"   // 404: no such thing, or no such path in this version of the agent
	CodeConflict    Code = "conflict"    // 409: not in this state: another leader, frozen, must be forced or confirmed
	CodeTooLarge    Code = "too_large"   // 413: more than one call may carry
	CodeInternal    Code = "failed"      // 500: tried, and it failed
	CodeUnavailable Code = "unavailable" // 503: not now: starting, stopping, disk failing
)

var statusOf = map[Code]int{
	CodeInvalid: http.StatusBadRequest, CodeDenied: http.StatusForbidden, CodeNotFound: http.StatusNotFound, CodeConflict: http.StatusConflict,
	CodeTooLarge: http.StatusRequestEntityTooLarge, CodeInternal: http.StatusInternalServerError, CodeUnavailable: http.StatusServiceUnavailable,
}

// Error is a refusal or failure as it travels: the agent returns one (or any error, which becomes CodeInternal), the
// client gets it back.
type Error struct {
	Message string `json:"error"`
	Code    Code   `json:"code"`
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an Error: what failed, on what, what to do.
func Errorf(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Message: fmt.Sprintf(format, args...)}
}

// ErrNoAgent says that nothing answers on the socket, or not in time: whether a call that was sent has had its effect is
// not known then.
var ErrNoAgent = errors.New("no agent reachable")

// ErrInUse says that a living agent already listens on the socket.
var ErrInUse = errors.New("another agent is running")

// asError turns any error into the one that travels.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		if _, known := statusOf[e.Code]; known {
			return &Error{Code: e.Code, Message: err.Error()}
		}
		return &Error{Code: CodeInternal, Message: err.Error()}
	}
	return &Error{Code: CodeInternal, Message: err.Error()}
}
