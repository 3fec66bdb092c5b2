package restclient

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// cleanupTime bounds what is done to leave a conductor tidy when the caller's context has ended already.
const cleanupTime = 10 * time.Second

// Permit is what the caller allows beyond its own edits.
type Permit struct {
	// Ours is asked when the candidate differs from running only in our tenant: the prefixes added to it and removed
	// from it, canonical and sorted. Both are empty where only the tenant itself was created. If it says true, exactly
	// these are undone. Nil means never.
	Ours func(added, removed []netip.Prefix) bool
}

// Running is the tenant as it was read from the running configuration.
type Running struct {
	Addresses []netip.Prefix // canonical (masked), sorted, without duplicates
	Unread    []string       // values that are no prefix; they are left alone
	Exists    bool           // the tenant exists
	Conductor string         // URL of the node that was read
}

// Conductor keeps the tenant. It is safe for concurrent use.
type Conductor struct {
	cfg   Config
	key   tenantKey
	nodes []*node

	mu       sync.Mutex
	closed   bool
	calls    map[*context.CancelCauseFunc]struct{} // that end what is under way
	first    int                                   // index of the node to try first: the one that worked last
	features string
}

// New checks the configuration and reads the file of the authority; it does not connect.
func New(cfg Config) (*Conductor, error) { return newWith(cfg, time.Now) }

func newWith(cfg Config, now func() time.Time) (*Conductor, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.URLs = slices.Clone(cfg.URLs)
	t, err := loadTrust(cfg, now)
	if err != nil {
		return nil, err
	}
	c := &Conductor{
		cfg:   cfg,
		key:   tenantKey{tenant: cfg.Tenant, neighborhood: cfg.Neighborhood},
		calls: make(map[*context.CancelCauseFunc]struct{}),
	}
	for _, s := range cfg.URLs {
		u, err := parseURL(s)
		if err != nil {
			return nil, fmt.Errorf("conductor %q: %w", s, err)
		}
		c.nodes = append(c.nodes, newNode(u, &c.cfg, t, now))
	}
	return c, nil
}

// Begin starts a change: it finds a node that answers, makes sure that the candidate is clean, and reads running's
// tenant. The Edit must be closed. Errors: *BusyError, ErrWideOpen, *RejectedError and those of Read.
func (c *Conductor) Begin(ctx context.Context, p Permit) (*Edit, error) {
	ctx, done, err := c.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	n, ab, err := c.contact(ctx)
	if err != nil {
		return nil, err
	}
	e := &Edit{c: c, n: n, log: c.cfg.Logger.With("conductor", n.url)}
	if err := e.begin(ctx, p, ab); err != nil {
		n.client.CloseIdleConnections()
		return nil, fmt.Errorf("begin at %s: %w", n.url, err)
	}
	return e, nil
}

// Read reads running's tenant. Errors: ErrUnreachable, ErrLogin, ErrForbidden, ErrCertificate, ErrSecretFile,
// ErrProtocol, *BusyError (the conductor asks to wait), ErrWideOpen (the result is valid then), ErrClosed.
func (c *Conductor) Read(ctx context.Context) (Running, error) {
	ctx, done, err := c.enter(ctx)
	if err != nil {
		return Running{}, err
	}
	defer done()
	n, _, err := c.contact(ctx)
	if err != nil {
		return Running{}, err
	}
	defer n.client.CloseIdleConnections()
	t, err := n.readTenant(ctx, running, c.key)
	if err != nil {
		return Running{}, fmt.Errorf("read running at %s: %w", n.url, err)
	}
	r := t.public(n.url)
	if err := refuseWideOpen("running", t.addresses); err != nil {
		return r, fmt.Errorf("read running at %s: %w", n.url, err)
	}
	return r, nil
}

func (t *tenantState) public(url string) Running {
	return Running{Addresses: slices.Clone(t.addresses), Unread: slices.Clone(t.unread), Exists: t.exists, Conductor: url}
}

// Features says in one line what the conductor last spoken to offers and which path is taken; "" before that.
func (c *Conductor) Features() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.features
}

// Close ends every call that is still under way. Begin and Read fail with ErrClosed afterwards.
func (c *Conductor) Close() error {
	c.mu.Lock()
	c.closed = true
	for cancel := range c.calls {
		(*cancel)(ErrClosed)
	}
	c.mu.Unlock()
	for _, n := range c.nodes {
		n.client.CloseIdleConnections()
	}
	return nil
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

// contact finds the first node that answers, beginning with the one that worked last. A refused login ends the round:
// it is the same on all nodes, and counts on each.
func (c *Conductor) contact(ctx context.Context) (*node, about, error) {
	c.mu.Lock()
	first := c.first
	c.mu.Unlock()
	var errs []error
	for i := range c.nodes {
		at := (first + i) % len(c.nodes)
		n := c.nodes[at]
		ab, err := c.try(ctx, n)
		if err == nil {
			c.mu.Lock()
			c.first = at
			c.mu.Unlock()
			c.show(n)
			return n, ab, nil
		}
		n.client.CloseIdleConnections()
		errs = append(errs, fmt.Errorf("%s: %w", n.url, err))
		if errors.Is(err, ErrLogin) || errors.Is(err, ErrSecretFile) || ctx.Err() != nil {
			break
		}
		if i+1 < len(c.nodes) {
			c.cfg.Logger.Warn("conductor's node failed, trying the next", "conductor", n.url, "err", err)
		}
	}
	if len(errs) == 1 {
		return nil, about{}, errs[0]
	}
	return nil, about{}, errors.Join(errs...)
}

// try makes the first call to a node, within the time that a dead one may cost.
func (c *Conductor) try(ctx context.Context, n *node) (about, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.DialTimeout,
		fmt.Errorf("no answer within %v: %w", c.cfg.DialTimeout, context.DeadlineExceeded))
	defer cancel()
	return n.look(ctx)
}

// show says for status which path is taken at a node.
func (c *Conductor) show(n *node) {
	ab := n.known()
	s := "REST"
	if ab.release != "" {
		s += " of release " + ab.release
	}
	s += ", " + ab.style.String() + ", no lock: the candidate is compared with running"
	switch {
	case c.cfg.ValidateMode == ValidateNone || ab.noValidate:
		s += ", validated by the commit alone"
	default:
		s += ", validate before commit"
	}
	if ab.merges {
		s += ", PATCH merges: the member is made anew to remove addresses"
	}
	c.mu.Lock()
	c.features = s + " at " + n.url
	c.mu.Unlock()
}

// cleanup is a context for tidying up, also after the caller's own has ended.
func cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
}
