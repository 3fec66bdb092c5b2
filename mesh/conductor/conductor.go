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

// cleanupTime bounds the cleanup at the conductor after the caller's context has ended.
const cleanupTime = 10 * time.Second

// Permit is what the caller allows beyond its own edits.
type Permit struct {
	// Ours is asked when the candidate differs from running only in our tenant. It gets the prefixes added to the tenant and
	// removed from it, canonical and sorted. If it returns true, exactly these are undone. Nil means never.
	Ours func(added, removed []netip.Prefix) bool
	// Kill lists sessions of a former leader that may be killed if they hold the lock. No other session is ever killed.
	Kill []SessionAt
}

// Running is the tenant as read from the running datastore.
type Running struct {
	Addresses []netip.Prefix // canonical (masked), sorted, without duplicates
	Exists    bool           // the tenant exists
	Member    bool           // our neighborhood's member exists
	Conductor string         // the node that was read, as named in the configuration
}

func (t *Tenant) public(node string) Running {
	return Running{Addresses: slices.Clone(t.Addresses), Exists: t.Exists, Member: t.Member, Conductor: node}
}

// Conductor keeps the tenant. It is safe for concurrent use; each Begin and Read has its own session.
type Conductor struct {
	cfg    Config
	driver Driver
	nodes  []*node
	settle time.Duration // how long a reading must stay the same before anything is undone because of it

	mu       sync.Mutex // guards the fields below and those of each node; never held over a call to the server
	closed   bool
	calls    map[*context.CancelCauseFunc]struct{} // each ends one call under way
	sessions map[Session]struct{}
	began    time.Time // when its first edit began
	first    int       // index of the node to try first: the last one that worked
	doubted  bool      // the outcome of its last commit is unknown: read running there, but edit at the next node
	features string
	warnings []string
}

// node holds what is remembered about one node.
type node struct {
	name     string
	identity string
	lacks    Abilities
	leftover *leftover
	undone   undone
	clean    uint64 // Difference.Text of the candidate when it was last clean; used only by the open edit

	// For a private candidate that somebody else seems to edit: its Difference.Text, since when it has been that, and when it was
	// last seen.
	stands uint64
	since  time.Time
	seen   time.Time

	// For nodes with candidates of their own: whether this process has looked at it yet, why it could not be tidied, and when
	// to try again.
	looked bool
	untidy string
	next   time.Time

	lifts  string    // how many bans the next commit of its candidate would lift; "" for none
	glance time.Time // when to look for that again
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

// Begin starts a change: it opens a session, takes the lock and reads the tenant from running. Where there is no lock, it
// makes sure that the candidate is clean instead. The Edit must be closed. Errors: *BusyError, ErrWideOpen, *RejectedError
// and those of Read.
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

// Read reads the tenant from running without a lock. Errors: ErrUnreachable, ErrLogin, ErrHostKey, *BusyError (the conductor
// asks to wait), *RejectedError, ErrWideOpen (with a valid result), ErrClosed.
func (c *Conductor) Read(ctx context.Context) (Running, error) {
	var r Running
	err := c.with(ctx, "read running", func(ctx context.Context, s Session, n *node) error {
		t, err := s.Read(ctx, RunningStore)
		if err != nil {
			return err
		}
		r = t.public(n.name)
		c.lookAround(ctx, s, n, t)
		return refuseWideOpen("running", t.Addresses)
	})
	return r, err
}

// Denied returns the names of the enabled services of running that deny our tenant, sorted. If no service denies the tenant,
// its addresses are not blocked. Errors: those of Read.
func (c *Conductor) Denied(ctx context.Context) (names []string, err error) {
	err = c.with(ctx, "read the services", func(ctx context.Context, s Session, _ *node) error {
		names, err = s.Denied(ctx)
		return err
	})
	return names, err
}

// CutSessions ends the live traffic sessions that have a flow from one of the prefixes, on every router: a new ban alone does
// not stop established sessions. It returns how many it ended. Errors: those of Read, and errors.ErrUnsupported if the
// interface has no such call.
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

// with calls do with a session of its own.
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

// Features says in one line what the server last used offers and how it is edited; "" before that.
func (c *Conductor) Features() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.features
}

// Warnings returns what an operator must know about the server last used.
func (c *Conductor) Warnings() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Clone(c.warnings)
	for _, n := range c.nodes {
		for _, w := range []string{n.untidy, n.lifts} {
			if w != "" {
				all = append(all, w)
			}
		}
	}
	return all
}

// Close aborts calls under way and closes all open sessions. After it, Begin and Read fail with ErrClosed.
func (c *Conductor) Close() error {
	c.mu.Lock()
	c.closed = true
	for cancel := range c.calls {
		(*cancel)(ErrClosed)
	}
	open := slices.Collect(maps.Keys(c.sessions))
	c.mu.Unlock()
	ended, cancel := context.WithCancel(context.Background())
	cancel() // close the connections without a farewell to the server
	for _, s := range open {
		_ = s.Close(ended)
	}
	return c.driver.Close()
}

// enter returns a context that also ends when the Conductor is closed.
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

// open opens a session with the first node that answers, starting with the last one that worked. A refused login ends the
// round: it is the same on all nodes, and each attempt counts towards a lockout.
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

// prefer sets which node the next session is tried with first.
func (c *Conductor) prefer(at int) {
	c.mu.Lock()
	c.first = at
	c.mu.Unlock()
}

// avoid makes the next attempt start at the next node if this one answers but cannot do its job.
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

// drop closes a session, also after the context has ended.
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

// lacks reports whether a node was found not to have an ability.
func (c *Conductor) lacks(n *node, a ability) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return n.lacks[a]
}

// learn remembers that a node lacks an ability.
func (c *Conductor) learn(s Session, n *node, a ability) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n.lacks[a] = true
	c.features = s.Features(n.lacks) + " at " + n.name
}

// show updates Features and Warnings. It is called after writes as well, because they reveal more of the server.
func (c *Conductor) show(s Session, n *node) {
	c.mu.Lock()
	c.features, c.warnings = s.Features(n.lacks)+" at "+n.name, s.Warnings()
	c.mu.Unlock()
}

// remember records what an edit has left in a node's candidate; nil records nothing.
func (c *Conductor) remember(n *node, l *leftover) {
	if l != nil {
		l.at = time.Now()
	}
	c.mu.Lock()
	n.leftover = l
	c.mu.Unlock()
}

// Cleanup returns a context for cleaning up, which lives on for some seconds after the caller's own has ended.
func Cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
}

// wait waits for d or until the context ends.
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
