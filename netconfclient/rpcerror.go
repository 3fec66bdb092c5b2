package netconfclient

import (
	"fmt"
	"strings"
)

// An rpcError is one rpc-error of a reply (RFC 6241 §4.3).
type rpcError struct {
	Type      string // transport, rpc, protocol, application
	Tag       string // RFC 6241 appendix A: "lock-denied", "data-missing", ...
	Severity  string // "error" or "warning"
	AppTag    string
	Path      string
	Message   string
	SessionID uint64   // session-id in error-info: the lock's holder; 0 if absent or not a NETCONF session
	Info      []string // the other leaves of error-info as name=value, for example bad-element=address
}

// Error has the fields of RFC 6241 section 4.3 that help an operator.
func (e rpcError) Error() string {
	var b strings.Builder
	b.WriteString(e.Tag)
	if e.AppTag != "" {
		fmt.Fprintf(&b, " (%s)", e.AppTag)
	}
	if e.Message != "" {
		fmt.Fprintf(&b, ": %s", e.Message)
	}
	if e.SessionID != 0 {
		fmt.Fprintf(&b, " [session %d]", e.SessionID)
	}
	if e.Path != "" {
		fmt.Fprintf(&b, " at %s", e.Path)
	}
	for _, i := range e.Info {
		fmt.Fprintf(&b, " [%s]", i)
	}
	return b.String()
}

// RPCErrors are all errors of one reply, at least one. Warnings are not among them.
type RPCErrors []rpcError

func (es RPCErrors) Error() string {
	// A refused edit of ten thousand addresses can come back as ten thousand errors.
	const few = 5
	var s []string
	for i, e := range es {
		if i == few {
			s = append(s, fmt.Sprintf("and %d more", len(es)-few))
			break
		}
		s = append(s, e.Error())
	}
	return strings.Join(s, "; ")
}

// Unwrap gives the single errors to errors.As.
func (es RPCErrors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

// Has reports whether any of the errors has the tag.
func (es RPCErrors) Has(tag string) bool {
	for _, e := range es {
		if e.Tag == tag {
			return true
		}
	}
	return false
}

// Only reports whether all errors have the tag.
// One data-missing among other errors must not make a failed deletion look harmless.
func (es RPCErrors) Only(tag string) bool {
	for _, e := range es {
		if e.Tag != tag {
			return false
		}
	}
	return len(es) > 0
}

// Holder returns the first session-id in the errors.
func (es RPCErrors) Holder() uint64 {
	for _, e := range es {
		if e.SessionID != 0 {
			return e.SessionID
		}
	}
	return 0
}
