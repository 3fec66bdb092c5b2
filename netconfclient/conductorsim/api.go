package conductorsim

import (
	"errors"
	"net"
)

// ServeREST answers REST over TLS on ln as the given node until Close, then returns nil.
func (s *Sim) ServeREST(node int, ln net.Listener) error { return errors.New("REST is not there yet") }
