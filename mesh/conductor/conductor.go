package conductor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"banmesh/mesh/conductor/prefixset"
)

// cleanupTime bounds what is done to leave a conductor tidy when the caller's context has ended already.
const cleanupTime = 10 * time.Second

// Permit is what the caller allows beyond its own edits.
type Permit struct {
	// Ours is asked when the candidate differs from running only in our tenant: the prefixes added to it and removed
	// from it, canonical and sorted. If it says true, exactly these are undone. Nil means never.
	Ours func(added, removed []netip.Prefix) bool
	// Kill lists sessions of a former leader that may be killed, if they hold the lock. No other session is, ever.
	Kill []SessionAt
}

// Running is the tenant as it was read from the running datastore.
type Running struct {
	Addresses []netip.Prefix // canonical (masked), sorted, without duplicates
	unread    []string       // values that are no prefix; they are left alone
	Exists    bool           // the tenant exists
	Member    bool           // our neighborhood's member exists
	Conductor string         // the node that was read, as configured
}

func (t *Tenant) public(node string) Running {
	return Running{Addresses: slices.Clone(t.Addresses), unread: slices.Clone(t.Unread), Exists: t.Exists, Member: t.Member, Conductor: node}
}

// Conductor keeps the tenant. It is safe for concurrent use; each Begin and Read has its own session.
type Conductor struct {
	cfg    Config
	driver Driver
	nodes  []*node
	settle time.Duration // for which a reading has to stay the same before anything is undone on its strength

	mu       sync.Mutex // guards the rest, and what is in nodes
	closed   bool
	calls    map[*context.CancelCauseFunc]struct{} // that end what is under way
	sessions map[Session]struct{}
	first    int  // index of the node to try first: the one that worked last
	doubted  bool // its last commit has no known outcome: it is read there, and the next edit is made elsewhere
	features string
	warnings []string
}

// node is what is remembered of one node.
type node struct {
	name     string
	identity string
	lacks    Abilities
	leftover *leftover
	undone   undone
	clean    uint64 // Difference.Text of the candidate when it last was clean; read and written by the edit that is open

	// Where each node has a candidate of its own: whether this process has looked at it yet, why it could not be tidied, and
	// when to try that again.
	looked bool
	untidy string
	next   time.Time
}

// New makes a Conductor of a driver; it does not connect.
func New(cfg Config, d Driver) *Conductor {
	c := &Conductor{
		cfg: cfg, driver: d, settle: min(3*time.Second, cfg.Timeout/10),
		calls: make(map[*context.CancelCauseFunc]struct{}), sessions: make(map[Session]struct{}),
	}
	for _, name := range d.Nodes() {
		c.nodes = append(c.nodes, &node{name: name, lacks: Abilities{}})
	}
	return c
}

// Begin starts a change: it opens a session, takes the lock (or, where there is none, makes sure that the candidate is
// clean) and reads running's tenant. The Edit must be closed. Errors: *BusyError, ErrWideOpen, *RejectedError and those of
// Read.
func (c *Conductor) Begin(ctx context.Context, p Permit) (Edit, error) {
	ctx, done, err := c.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	c.mu.Lock()
	if c.doubted {
		c.doubted, c.first = false, (c.first+1)%len(c.nodes)
	}
	c.mu.Unlock()
	s, n, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	e := &edit{c: c, s: s, n: n, log: c.cfg.Logger.With("conductor", n.name)}
	if id := s.At().ID; id != 0 {
		e.log = e.log.With("session", id)
	}
	c.tidyOthers(ctx, s, n, p)
	if err := e.begin(ctx, p); err != nil {
		c.avoid(n, err)
		if closeErr := e.Close(ctx); closeErr != nil {
			e.log.Warn("session not closed cleanly", "err", closeErr)
		}
		return nil, fmt.Errorf("begin at %s: %w", n.name, err)
	}
	return e, nil
}

// Read reads running's tenant without a lock. Errors: ErrUnreachable, ErrLogin, ErrHostKey, *BusyError (the conductor asks
// to wait), *RejectedError, ErrWideOpen (the result is valid then), ErrClosed.
func (c *Conductor) Read(ctx context.Context) (Running, error) {
	var r Running
	err := c.with(ctx, "read running", func(ctx context.Context, s Session, n *node) error {
		t, err := s.Read(ctx, RunningStore)
		if err != nil {
			return err
		}
		r = t.public(n.name)
		return refuseWideOpen("running", t.Addresses)
	})
	return r, err
}

// Denied returns the names of the enabled services of running that deny our tenant, sorted. A tenant that none denies
// blocks nobody. Errors: those of Read.
func (c *Conductor) Denied(ctx context.Context) (names []string, err error) {
	err = c.with(ctx, "read the services", func(ctx context.Context, s Session, _ *node) error {
		names, err = s.Denied(ctx)
		return err
	})
	return names, err
}

// CutSessions ends the live traffic sessions that have a flow from one of the prefixes, on every router: a new ban alone
// lets what is already established go on. It returns how many were ended. Errors are those of Read, and
// errors.ErrUnsupported where the interface has no such call.
func (c *Conductor) CutSessions(ctx context.Context, prefixes []netip.Prefix) (ended int, err error) {
	sources, err := prefixset.Canonical(prefixes)
	if err != nil {
		return 0, fmt.Errorf("cut sessions: %w", err)
	}
	if err := refuseWideOpen("what sessions are to be cut of", sources); err != nil {
		return 0, fmt.Errorf("cut sessions: %w", err)
	}
	if len(sources) == 0 {
		return 0, nil
	}
	err = c.with(ctx, "cut sessions", func(ctx context.Context, s Session, _ *node) error {
		ended, err = s.Cut(ctx, sources)
		return err
	})
	return ended, err
}

// with does something in a session of its own.
func (c *Conductor) with(ctx context.Context, what string, do func(context.Context, Session, *node) error) error {
	ctx, done, err := c.enter(ctx)
	if err != nil {
		return err
	}
	defer done()
	s, n, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer c.drop(ctx, s)
	if err := do(ctx, s, n); err != nil {
		c.avoid(n, err)
		return fmt.Errorf("%s at %s: %w", what, n.name, err)
	}
	return nil
}

// Features says in one line what the server last spoken to offers and which path is taken; "" before that.
func (c *Conductor) Features() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.features
}

// Warnings are what an operator has to know of the server last spoken to.
func (c *Conductor) Warnings() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Clone(c.warnings)
	for _, n := range c.nodes {
		if n.untidy != "" {
			all = append(all, n.untidy)
		}
	}
	return all
}

// Close ends what is under way and closes every session that is still open. Begin and Read fail with ErrClosed afterwards.
func (c *Conductor) Close() error {
	c.mu.Lock()
	c.closed = true
	for cancel := range c.calls {
		(*cancel)(ErrClosed)
	}
	open := slices.Collect(maps.Keys(c.sessions))
	c.mu.Unlock()
	ended, cancel := context.WithCancel(context.Background())
	cancel() // nothing is said to the server any more
	for _, s := range open {
		_ = s.Close(ended)
	}
	return c.driver.Close()
}

// enter gives a context that also ends with the Conductor.
func (c *Conductor) enter(ctx context.Context) (context.Context, func(), error) {
	ctx, cancel := context.WithCancelCause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		cancel(ErrClosed)
		return nil, nil, ErrClosed
	}
	c.calls[&cancel] = struct{}{}
	return ctx, func() {
		c.mu.Lock()
		delete(c.calls, &cancel)
		c.mu.Unlock()
		cancel(nil)
	}, nil
}

// open opens a session with the first node that answers, beginning with the one that worked last. A refused login ends the
// round: it is the same on all nodes, and counts on each.
func (c *Conductor) open(ctx context.Context) (Session, *node, error) {
	c.mu.Lock()
	first := c.first
	c.mu.Unlock()
	var errs []error
	for i := range c.nodes {
		at := (first + i) % len(c.nodes)
		s, err := c.driver.Open(ctx, at)
		if err == nil {
			n, err := c.adopt(s, at)
			return s, n, err
		}
		errs = append(errs, fmt.Errorf("%s: %w", c.nodes[at].name, err))
		if errors.Is(err, ErrSecret) || ctx.Err() != nil {
			break
		}
		if errors.Is(err, ErrLogin) && !errors.Is(err, ErrForbidden) {
			c.prefer((at + 1) % len(c.nodes))
			break
		}
		if i+1 < len(c.nodes) {
			c.cfg.Logger.Warn("conductor's node failed, trying the next", "conductor", c.nodes[at].name, "err", err)
		}
	}
	if len(errs) == 1 {
		return nil, nil, errs[0]
	}
	return nil, nil, errors.Join(errs...)
}

// adopt registers a new session.
func (c *Conductor) adopt(s Session, at int) (*node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		go s.Close(ended)
		return nil, ErrClosed
	}
	n := c.nodes[at]
	if identity := s.Identity(); n.identity != identity {
		n.identity, n.lacks = identity, Abilities{}
	}
	c.sessions[s], c.first = struct{}{}, at
	c.features, c.warnings = s.Features(n.lacks)+" at "+n.name, s.Warnings()
	return n, nil
}

func (c *Conductor) prefer(at int) {
	c.mu.Lock()
	c.first = at
	c.mu.Unlock()
}

// avoid has the next attempt begin at the next node, where this one answers and cannot do what it is there for.
func (c *Conductor) avoid(n *node, err error) {
	switch {
	case errors.Is(err, ErrUnknown):
		c.mu.Lock()
		c.doubted = true
		c.mu.Unlock()
	case errors.Is(err, ErrUnreachable), errors.Is(err, ErrForbidden):
		c.prefer((slices.Index(c.nodes, n) + 1) % len(c.nodes))
	}
}

// drop ends a session.
func (c *Conductor) drop(ctx context.Context, s Session) error {
	ctx, cancel := Cleanup(ctx)
	defer cancel()
	err := s.Close(ctx)
	c.mu.Lock()
	delete(c.sessions, s)
	c.mu.Unlock()
	if errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

// lacks reports whether a node turned out not to have an ability.
func (c *Conductor) lacks(n *node, a ability) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return n.lacks[a]
}

// learn remembers that a node has not got an ability.
func (c *Conductor) learn(s Session, n *node, a ability) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n.lacks[a] = true
	c.features = s.Features(n.lacks) + " at " + n.name
}

// show says for Features and Warnings how a node is spoken to; what was written has shown more of that.
func (c *Conductor) show(s Session, n *node) {
	c.mu.Lock()
	c.features, c.warnings = s.Features(n.lacks)+" at "+n.name, s.Warnings()
	c.mu.Unlock()
}

// remember keeps what an edit has left in a node's candidate; nil is nothing.
func (c *Conductor) remember(n *node, l *leftover) {
	if l != nil {
		l.at = time.Now()
	}
	c.mu.Lock()
	n.leftover = l
	c.mu.Unlock()
}

// Cleanup is a context for tidying up, also after the caller's own has ended.
func Cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
}

// wait waits, as long as the context lasts.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnreachable, context.Cause(ctx))
	case <-t.C:
		return nil
	}
}
