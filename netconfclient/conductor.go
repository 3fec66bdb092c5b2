package netconfclient

import (
	"context"
	"errors"
	"net/netip"
)

// Datastore names a NETCONF configuration datastore.
type Datastore string

// The datastores in use.
const (
	RunningStore   Datastore = "running"
	CandidateStore Datastore = "candidate"
)

// Permit is what the caller allows beyond its own edits.
type Permit struct {
	// Ours is asked when the candidate differs from running only in our tenant: the prefixes added to it and removed
	// from it, canonical and sorted. If it says true, exactly these are undone. Nil means never.
	Ours func(added, removed []netip.Prefix) bool
	// Kill lists sessions of a former leader that may be killed, if they hold the lock.
	Kill []uint64
}

// Running is the tenant as it was read from the running datastore.
type Running struct {
	Addresses []netip.Prefix // canonical (masked), sorted, without duplicates
	Unread    []string       // values that are no prefix; they are left alone
	Exists    bool           // the tenant exists
	Conductor string         // host:port of the node that was read
}

// Conductor keeps the tenant. It is safe for concurrent use; each Begin and Read has its own session.
type Conductor struct{ cfg Config }

// New checks the configuration; it does not connect.
func New(cfg Config) (*Conductor, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Conductor{cfg: cfg}, nil
}

// Begin starts a change: it connects, takes the lock (or, where there is none, makes sure that the candidate is
// clean) and reads running's tenant.
func (c *Conductor) Begin(ctx context.Context, p Permit) (*Edit, error) {
	return nil, errors.ErrUnsupported
}

// Read reads running's tenant without a lock.
func (c *Conductor) Read(ctx context.Context) (Running, error) {
	return Running{}, errors.ErrUnsupported
}

// Features says in one line what the server last spoken to offers and which path is taken; "" before that.
func (c *Conductor) Features() string { return "" }

// Close closes every session that is still open. Begin and Read fail with ErrClosed afterwards.
func (c *Conductor) Close() error { return nil }

// Edit is one change of the tenant, from Begin to Close. It is not safe for concurrent use.
type Edit struct{}

// Running is the tenant as it was when the change began.
func (e *Edit) Running() Running { return Running{} }

// Session is the NETCONF session-id.
func (e *Edit) Session() uint64 { return 0 }

// Apply edits only the difference, reads the candidate back and compares it as a set.
func (e *Edit) Apply(ctx context.Context, add, remove []netip.Prefix) error {
	return errors.ErrUnsupported
}

// Commit validates as configured, commits, reads running back and compares it as a set.
func (e *Edit) Commit(ctx context.Context) error { return errors.ErrUnsupported }

// Close discards or undoes what was not committed, unlocks and closes the session.
func (e *Edit) Close(ctx context.Context) error { return nil }
