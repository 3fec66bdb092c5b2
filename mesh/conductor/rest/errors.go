package rest

import (
	"fmt"
	"net/http"
	"time"

	"banmesh/mesh/conductor"
)

// ErrCertificate: the conductor's certificate is not the pinned one, is not signed by the configured authority, is valid for
// another name, or has expired. The error is a *CertificateError, unless the file of the authority is unusable. It is a
// conductor.ErrHostKey.
var ErrCertificate = conductor.Kind("certificate of the conductor is not trusted", conductor.ErrHostKey)

// A statusError is an answer with an HTTP status other than success. It is conductor's ErrLogin (401), ErrForbidden (403),
// ErrUnreachable (5xx) or ErrProtocol (3xx). A *BusyError wraps it for 409 and 429, and a *RejectedError for a refused
// change.
type statusError struct {
	Method, Path string
	Status       int
	Message      string        // what the conductor said, one line; "" if nothing readable
	RetryAfter   time.Duration // from Retry-After; 0 if absent

	messages []string // the same, one by one
	page     bool     // the body was HTML
}

// Error adds the way out where a status has a usual cause.
func (e *statusError) Error() string {
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

// Unwrap makes a *statusError the sentinel of its status.
func (e *statusError) Unwrap() error {
	switch {
	case e.Status == http.StatusUnauthorized:
		return conductor.ErrLogin
	case e.Status == http.StatusForbidden:
		return conductor.ErrForbidden
	case e.Status >= 500:
		return conductor.ErrUnreachable
	case e.Status < 400:
		return conductor.ErrProtocol
	}
	return nil
}
