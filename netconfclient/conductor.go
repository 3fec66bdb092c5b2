package netconfclient

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Datastore names a NETCONF configuration datastore.
type Datastore string

// The datastores in use.
const (
	RunningStore   Datastore = "running"
	CandidateStore Datastore = "candidate"
)

// cleanupTime bounds what is done to leave a server tidy when the caller's context has ended already.
const cleanupTime = 5 * time.Second

// Permit is what the caller allows beyond its own edits.
type Permit struct {
	// Ours is asked when the candidate differs from running only in our tenant: the prefixes added to it and removed
	// from it, canonical and sorted. Both are empty where only the tenant itself was created. If it says true, exactly
	// these are undone. Nil means never.
	Ours func(added, removed []netip.Prefix) bool
	// Kill lists sessions of a former leader that may be killed, if they hold the lock.
	Kill []SessionAt
}

// SessionAt names a session: each node of a conductor numbers its own.
type SessionAt struct {
	Node string // host:port as configured
	ID   uint64
}

// Running is the tenant as it was read from the running datastore.
type Running struct {
	Addresses []netip.Prefix // canonical (masked), sorted, without duplicates
	Unread    []string       // values that are no prefix; they are left alone
	Exists    bool           // the tenant exists
	Conductor string         // host:port of the node that was read
}

// Conductor keeps the tenant. It is safe for concurrent use; each Begin and Read has its own session.
type Conductor struct {
	cfg Config
	key tenantKey

	mu       sync.Mutex
	closed   bool
	sessions map[*Session]struct{}
	first    int // index of the address to try first: the one that worked last
	learned  map[string]learned
	features string
}

// New checks the configuration; it does not connect.
func New(cfg Config) (*Conductor, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Addresses = slices.Clone(cfg.Addresses)
	return &Conductor{
		cfg:      cfg,
		key:      tenantKey{tenant: cfg.Tenant, neighborhood: cfg.Neighborhood},
		sessions: make(map[*Session]struct{}),
		learned:  make(map[string]learned),
	}, nil
}

// Begin starts a change: it connects, takes the lock (or, where there is none, makes sure that the candidate is
// clean) and reads running's tenant. The Edit must be closed. Errors: *BusyError, ErrWideOpen, *RejectedError and
// those of Read.
func (c *Conductor) Begin(ctx context.Context, p Permit) (*Edit, error) {
	s, pa, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	e := &Edit{c: c, s: s, path: pa, log: s.log}
	if err := e.begin(ctx, p); err != nil {
		if closeErr := e.Close(ctx); closeErr != nil {
			e.log.Warn("session not closed cleanly", "err", closeErr)
		}
		return nil, fmt.Errorf("begin at %s: %w", s.addr, err)
	}
	return e, nil
}

// Read reads running's tenant without a lock. Errors: ErrUnreachable, ErrLogin, ErrHostKey, ErrKeyFile, ErrProtocol,
// ErrWideOpen (the result is valid then), ErrClosed, *RejectedError.
func (c *Conductor) Read(ctx context.Context) (Running, error) {
	s, _, err := c.dial(ctx)
	if err != nil {
		return Running{}, err
	}
	defer c.drop(ctx, s)
	t, _, err := c.readTenant(ctx, s, RunningStore)
	if err != nil {
		return Running{}, fmt.Errorf("read running at %s: %w", s.addr, err)
	}
	r := t.public(s.addr)
	if err := refuseWideOpen("running", t.addresses); err != nil {
		return r, fmt.Errorf("read running at %s: %w", s.addr, err)
	}
	return r, nil
}

// Features says in one line what the server last spoken to offers and which path is taken; "" before that.
func (c *Conductor) Features() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.features
}

// Close closes every session that is still open. Begin and Read fail with ErrClosed afterwards.
func (c *Conductor) Close() error {
	c.mu.Lock()
	c.closed = true
	var open []*Session
	for s := range c.sessions {
		open = append(open, s)
	}
	c.mu.Unlock()
	for _, s := range open {
		s.Close()
	}
	return nil
}

// dial opens a session with the first node that answers, beginning with the one that worked last. A refused login ends
// the round: the nodes share their accounts, and count.
func (c *Conductor) dial(ctx context.Context) (*Session, path, error) {
	c.mu.Lock()
	first, closed := c.first, c.closed
	c.mu.Unlock()
	if closed {
		return nil, path{}, ErrClosed
	}
	var errs []error
	for i := range c.cfg.Addresses {
		n := (first + i) % len(c.cfg.Addresses)
		s, err := c.open(ctx, c.cfg.Addresses[n])
		if err == nil {
			pa, err := c.adopt(s, n)
			return s, pa, err
		}
		errs = append(errs, err)
		if errors.Is(err, ErrLogin) {
			c.setFirst((n + 1) % len(c.cfg.Addresses))
			break
		}
		if errors.Is(err, ErrKeyFile) || ctx.Err() != nil {
			break
		}
		if i+1 < len(c.cfg.Addresses) {
			c.cfg.Logger.Warn("conductor's node failed, trying the next", "conductor", c.cfg.Addresses[n], "err", err)
		}
	}
	if len(errs) == 1 {
		return nil, path{}, errs[0]
	}
	return nil, path{}, errors.Join(errs...)
}

// firstAnswer is how long the first operation of a session is waited for before another session is tried.
const firstAnswer = 3 * time.Second

// open dials one node and makes sure that it answers. One server never answers an operation that it happened to read
// together with our hello, so silence is no reason yet to give the node up. What is
// asked is small: the authority's name.
func (c *Conductor) open(ctx context.Context, addr string) (*Session, error) {
	deadline := time.Now().Add(c.cfg.Timeout)
	for attempt := 0; ; attempt++ {
		s, err := c.dialOne(ctx, addr)
		if err != nil {
			return nil, err
		}
		patience := min(firstAnswer, c.cfg.Timeout/4)
		if attempt == 2 {
			patience = time.Until(deadline)
		}
		probe, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer to the first operation: %w", context.DeadlineExceeded))
		_, err = s.GetConfig(probe, RunningStore, Filter{Content: []Element{
			el("config", el("authority", el("name")).in(nsAuthority)).in(nsConfig),
		}})
		silent := probe.Err() != nil && ctx.Err() == nil
		cancel()
		if err == nil || errors.As(err, new(RPCErrors)) {
			return s, nil // a refusal is an answer
		}
		s.Close()
		if !silent || attempt == 2 {
			return nil, err
		}
		c.cfg.Logger.Info("conductor does not answer the first operation, trying another session", "conductor", addr)
	}
}

func (c *Conductor) dialOne(ctx context.Context, addr string) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.DialTimeout)
	defer cancel()
	return Dial(ctx, DialConfig{
		Address: addr, User: c.cfg.User, KeyFile: c.cfg.KeyFile, KnownHosts: c.cfg.KnownHosts,
		MaxReply: c.cfg.MaxReply, Logger: c.cfg.Logger,
	})
}

// adopt registers a new session and chooses its path.
func (c *Conductor) adopt(s *Session, n int) (path, error) {
	pa := choosePath(s, c.cfg)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		go s.Close()
		return path{}, ErrClosed
	}
	c.sessions[s] = struct{}{}
	c.first = n
	if l := c.learned[s.addr]; l.capabilities == capabilityKey(s) {
		l.apply(&pa)
	}
	c.features = pa.String() + " at " + s.addr
	return pa, nil
}

func (c *Conductor) setFirst(n int) {
	c.mu.Lock()
	c.first = n
	c.mu.Unlock()
}

func capabilityKey(s *Session) string { return strings.Join(s.Capabilities(), " ") }

// learn remembers what a server turned out not to support.
func (c *Conductor) learn(s *Session, pa *path, note func(*learned)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.learned[s.addr]
	if key := capabilityKey(s); l.capabilities != key {
		l = learned{capabilities: key}
	}
	note(&l)
	c.learned[s.addr] = l
	l.apply(pa)
	c.features = pa.String() + " at " + s.addr
}

// drop ends a session as the protocol has it.
func (c *Conductor) drop(ctx context.Context, s *Session) error {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	err := s.CloseSession(ctx)
	if errors.Is(err, ErrClosed) {
		err = nil
	}
	c.forget(s)
	return err
}

func (c *Conductor) forget(s *Session) {
	c.mu.Lock()
	delete(c.sessions, s)
	c.mu.Unlock()
}

// cleanup is a context for tidying up, also after the caller's own has ended.
func cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
}

// bound gives each operation its own time.
func (c *Conductor) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.cfg.Timeout,
		fmt.Errorf("no answer within %v: %w", c.cfg.Timeout, context.DeadlineExceeded))
}

// readTenant reads our tenant from a datastore.
func (c *Conductor) readTenant(ctx context.Context, s *Session, source Datastore) (*tenantState, *Reply, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	r, err := s.GetConfig(ctx, source, c.key.filter())
	if err != nil {
		return nil, nil, refused("get-config", err)
	}
	t, err := parseTenant(r, c.key)
	if err != nil {
		return nil, nil, s.breach(err)
	}
	return t, r, nil
}

func (t *tenantState) public(addr string) Running {
	return Running{Addresses: slices.Clone(t.addresses), Unread: slices.Clone(t.unread), Exists: t.exists, Conductor: addr}
}

// refused names the step that rpc-errors came from; other errors stay as they are.
func refused(step string, err error) error {
	var errs RPCErrors
	if !errors.As(err, &errs) {
		return err
	}
	if b := busy(errs); b != nil {
		return b
	}
	return &RejectedError{Step: step, Errors: errs}
}

// busy recognises that somebody else is in the way. The last is the device's own wording.
func busy(errs RPCErrors) *BusyError {
	for _, e := range errs {
		if e.Tag == "lock-denied" || e.Tag == "in-use" || strings.Contains(e.Message, "is already in progress") {
			return &BusyError{Holder: errs.holder(), Detail: errs.Error()}
		}
	}
	return nil
}

// unsupported tells whether the server does not know the operation at all.
func unsupported(err error) bool {
	var errs RPCErrors
	return errors.As(err, &errs) && (errs.has("operation-not-supported") || errs.has("unknown-element") && len(errs) == 1)
}
