package conductorsim

import (
	"errors"
	"net"

	"banmesh/netconfclient/conductorsim/history"
)

// New makes a conductor; it answers once it is served on a listener. Close it in any case.
func New(cfg Config) (*Sim, error) { return nil, errNotYet }

var errNotYet = errors.New("not built yet")

func (s *Sim) prepare(rest bool, addr net.Addr) error { return errNotYet }

// Serve answers NETCONF on ln as node 1 until Close, then returns nil.
func (s *Sim) Serve(ln net.Listener) error { return s.ServeNode(1, ln) }

// ServeNode answers NETCONF on ln as the given node (1 or 2) until Close or until ln is closed, then returns nil.
func (s *Sim) ServeNode(node int, ln net.Listener) error { return errNotYet }

// ServeREST answers REST over TLS on ln as the given node until Close, then returns nil.
func (s *Sim) ServeREST(node int, ln net.Listener) error { return errNotYet }

// Close ends all sessions and listeners and waits until nothing of the conductor runs any more.
func (s *Sim) Close() error { return nil }

// Inject puts a fault in force.
func (s *Sim) Inject(f Fault) error { return nil }

// Clear ends faults of the given kinds, all with none given.
func (s *Sim) Clear(kinds ...FaultKind) {}

// Faults returns the faults in force.
func (s *Sim) Faults() []Fault { return nil }

// History is what happened so far; it grows on.
func (s *Sim) History() *history.Log { return nil }

// Running returns the running configuration; its root is the datastore.
func (s *Sim) Running() *Node { return nil }

// Addresses returns the addresses of a tenant's member in running, as stored.
func (s *Sim) Addresses(tenant, member string) []string { return nil }

// ShowTenant prints a tenant as the device's `show config running authority tenant NAME` does; ok is false when it
// does not exist.
func (s *Sim) ShowTenant(name string) (text string, ok bool) { return "", false }

// ClientKey returns the private key that may log in, as PEM (the content of client_key).
func (s *Sim) ClientKey() []byte { return nil }

// KnownHosts returns known_hosts lines for all addresses served so far.
func (s *Sim) KnownHosts() []byte { return nil }

// Admin opens a session of another administrator at the device's own console.
func (s *Sim) Admin(user string) *Admin { return nil }

// Admin is another administrator, working at the console in process. It has a session-id as NETCONF sessions have.
type Admin struct{ sim *Sim }

// Session returns the session-id that others see when this administrator holds a lock.
func (a *Admin) Session() uint64 { return 0 }

// Edit merges XML (a whole <config> of the device, with NETCONF operations where wanted) into the candidate.
func (a *Admin) Edit(config string) error { return errNotYet }

// Commit commits the candidate, with whatever others have left in it.
func (a *Admin) Commit() error { return errNotYet }

// Discard drops all edits of the candidate.
func (a *Admin) Discard() error { return errNotYet }

// Lock takes the candidate's lock.
func (a *Admin) Lock() error { return errNotYet }

// Unlock gives it back.
func (a *Admin) Unlock() error { return errNotYet }

// Close ends the session; its lock is released.
func (a *Admin) Close() {}

// Dirty leaves another administrator's edit in the candidate: a service "half-finished" that is valid, or, with valid
// false, one that names a tenant which does not exist.
func (s *Sim) Dirty(valid bool) error { return errNotYet }

type Datastores struct{}
type keyring struct{}
type sessionInfo struct{}
