package conductorsim

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"banmesh/internal/sim/conductorsim/history"
)

// Style is whose the candidate configuration is; it changed with the device's releases.
type Style string

// The styles.
const (
	Style52 Style = "5.2" // one for all administrators and both nodes; it outlives sessions
	Style55 Style = "5.5" // one for each conductor node, not synchronised
	Style56 Style = "5.6" // one for each user, merged at commit; conflicting edits fail and are dropped
)

// Dialect is how the server spells its refusals. Real ones differ.
type Dialect string

// The dialects.
const (
	// DialectResource answers resource-denied to a lock of a dirty candidate, lock-denied to a second lock by the same
	// session, and in-use without naming the holder.
	DialectResource Dialect = "resource-denied"
	// DialectFailed answers operation-failed to both, in-use with the holder, and data-missing without a path.
	DialectFailed Dialect = "operation-failed"
)

// Storage is what becomes of the spelling of an address.
type Storage string

// The ways of storing.
const (
	AsGiven   Storage = "as-given"  // host bits, spellings and double ones stay
	Canonical Storage = "canonical" // masked, compressed, double ones merged, sorted
)

// Features is what the server offers. What it does not offer is neither announced nor done.
type Features struct {
	Base10, Base11  bool // framings; at least one
	Candidate       bool
	WritableRunning bool // edits of running take effect at once
	Lock            bool // lock and unlock; base operations that a device may lack all the same
	Validate        bool // validate, and test-option in edit-config
	Discard         bool // discard-changes
	ConfirmedCommit bool
	Startup         bool // a startup configuration, which alone outlives a restart
	RollbackOnError bool
	ValidationType  bool // the vendor's leaf in commit; a server without it refuses it as unknown
}

// AllFeatures is a device that offers everything but confirmed commits and a writable running configuration.
func AllFeatures() Features {
	return Features{Base10: true, Base11: true, Candidate: true, Lock: true, Validate: true, Discard: true,
		RollbackOnError: true, ValidationType: true}
}

// Config says what kind of conductor to simulate. Start from DefaultConfig.
type Config struct {
	// Dir holds host_key, client_key (made when absent, 0600), authorized_keys, known_hosts, running.xml,
	// history.jsonl, faults.sock, rest_cert.pem and rest_key.pem. "" keeps everything in memory.
	Dir string
	// Initial is the configuration to start with, as XML, where Dir holds none.
	Initial []byte

	Users    []string // who may log in with a key of authorized_keys
	Password string   // of every user, for REST
	Token    string   // a REST token that needs no login and never expires; "" is none
	Nodes    int      // 1, or 2 for a pair: node 1 and 2 over one running configuration
	Features Features
	Style    Style
	Dialect  Dialect
	Storage  Storage
	// MaxSessions is how many NETCONF sessions there can be: more are closed without a word. 0 is no bound.
	MaxSessions int
	// CommitDelay is how long each commit takes.
	CommitDelay time.Duration
	// DiscardOnUnlock drops the candidate's edits when its lock is released, as RFC 6241 §8.3.5.2 wants and the
	// device (up to 5.2) does not do.
	DiscardOnUnlock bool
	// PatchReplaces makes a REST PATCH of a list of addresses replace it; else it merges.
	PatchReplaces bool
	// Assigns makes the device give each new tenant values of its own, as the published model's hidden id is, and a container of
	// defaults.
	Assigns bool
	// VerdictStatus is the HTTP status with which REST's validate and commit answer a list of errors: 200 or 4xx.
	VerdictStatus int
	// ExpiredCertificate makes the REST front show a certificate that is no longer valid.
	ExpiredCertificate bool

	MaxMessage int // bytes of one request
	MaxDepth   int // of its elements

	Now    func() time.Time
	Logger *slog.Logger
}

// DefaultConfig is a 5.2 conductor of one node, in memory, that commits at once.
func DefaultConfig() Config {
	return Config{Users: []string{"admin"}, Password: "admin", VerdictStatus: 200, Nodes: 1, Features: AllFeatures(), Style: Style52,
		Dialect: DialectResource, Storage: AsGiven, MaxMessage: 64 << 20, MaxDepth: 64, Now: time.Now,
		Logger: slog.New(slog.DiscardHandler)}
}

// Validate names the first field that cannot be worked with.
func (c Config) Validate() error {
	switch {
	case len(c.Users) == 0:
		return fmt.Errorf("users: at least one is needed")
	case c.Nodes < 1 || c.Nodes > 2:
		return fmt.Errorf("nodes: %d, want 1 or 2", c.Nodes)
	case !c.Features.Base10 && !c.Features.Base11:
		return fmt.Errorf("features: neither base:1.0 nor base:1.1")
	case !c.Features.Candidate && !c.Features.WritableRunning:
		return fmt.Errorf("features: neither candidate nor writable-running: nothing could be configured")
	case c.Style != Style52 && c.Style != Style55 && c.Style != Style56:
		return fmt.Errorf("style: %q, want %s, %s or %s", c.Style, Style52, Style55, Style56)
	case c.Dialect != DialectResource && c.Dialect != DialectFailed:
		return fmt.Errorf("dialect: %q, want %s or %s", c.Dialect, DialectResource, DialectFailed)
	case c.Storage != AsGiven && c.Storage != Canonical:
		return fmt.Errorf("storage: %q, want %s or %s", c.Storage, AsGiven, Canonical)
	case c.VerdictStatus < 200 || c.VerdictStatus > 599:
		return fmt.Errorf("verdict status: %d is no HTTP status of an answer", c.VerdictStatus)
	case c.CommitDelay < 0:
		return fmt.Errorf("commit delay: %s is negative", c.CommitDelay)
	case c.MaxMessage < 1024 || c.MaxDepth < 8:
		return fmt.Errorf("limits: message %d, depth %d: too small to work with", c.MaxMessage, c.MaxDepth)
	case c.Now == nil || c.Logger == nil:
		return fmt.Errorf("now and logger must be set")
	}
	return nil
}

// Sim is a simulated conductor. Its methods may be called from any goroutine.
type Sim struct {
	cfg     Config
	stores  *Datastores
	faults  *faultSet
	keys    *keyring
	cert    tls.Certificate // for REST
	traffic traffic         // for REST
	history *history.Log

	ctx     context.Context // ends with Close: what still waits (delays, frozen sessions) gives up
	cancel  context.CancelFunc
	tasks   sync.WaitGroup
	serving sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	closers  map[io.Closer]struct{} // listeners
	sessions map[uint64]*sessionInfo
	nextID   uint64
	tokens   map[string]Actor // REST logins
}

// New makes a conductor, which answers once it is served on a listener. Close it in any case.
func New(cfg Config) (*Sim, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure conductor: %w", err)
	}
	s := &Sim{cfg: cfg, faults: newFaultSet(), closers: make(map[io.Closer]struct{}), sessions: make(map[uint64]*sessionInfo),
		tokens: make(map[string]Actor)}
	var persist func(*Node) error
	s.history = history.NewLog(cfg.Now)
	if cfg.Dir != "" {
		if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
			return nil, fmt.Errorf("open conductor: %w", err)
		}
		persist = func(n *Node) error { return saveRunning(cfg.Dir, n) }
	}
	running, err := loadRunning(cfg)
	if err != nil {
		return nil, fmt.Errorf("load running configuration: %w", err)
	}
	if s.keys, err = openKeyring(cfg.Dir); err != nil {
		return nil, fmt.Errorf("open keys: %w", err)
	}
	if s.cert, err = openCertificate(cfg.Dir, cfg.Now(), cfg.ExpiredCertificate); err != nil {
		return nil, fmt.Errorf("open certificate: %w", err)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if cfg.Dir == "" {
		s.stores = newDatastores(cfg, running, s.faults, s.history, persist)
		return s, nil
	}
	ln, done, err := listenControl(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	if s.history, err = history.AppendTo(filepath.Join(cfg.Dir, "history.jsonl"), cfg.Now); err != nil {
		ln.Close()
		done()
		return nil, err
	}
	s.stores = newDatastores(cfg, running, s.faults, s.history, persist)
	s.tasks.Go(func() {
		defer done()
		if err := s.accept(1, ln, s.serveControl); err != nil {
			cfg.Logger.Warn("control socket broke off", "error", err)
		}
	})
	return s, nil
}

// prepare writes what a client needs to connect to addr.
func (s *Sim) prepare(rest bool, addr net.Addr) error {
	if rest {
		return nil
	}
	return s.keys.serveOn(addr)
}

// hold registers a listener to be closed with the conductor, which then waits for its drop; false says that the
// conductor is closed already.
func (s *Sim) hold(c io.Closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.closers[c] = struct{}{}
	s.serving.Add(1)
	return true
}

func (s *Sim) drop(c io.Closer) {
	s.mu.Lock()
	delete(s.closers, c)
	s.mu.Unlock()
	c.Close()
	s.serving.Done()
}

// Serve answers NETCONF on ln as node 1 until Close, or until ln is closed, then returns nil.
func (s *Sim) Serve(ln net.Listener) error { return s.ServeNode(1, ln) }

// ServeNode is Serve as the given node, 1 or 2. Closing ln ends the node's connections: it is down.
func (s *Sim) ServeNode(node int, ln net.Listener) error {
	if node < 1 || node > s.cfg.Nodes {
		return fmt.Errorf("serve node %d: there are %d", node, s.cfg.Nodes)
	}
	if err := s.prepare(false, ln.Addr()); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return s.accept(node, faultyListener{ln, s, node}, s.serveSSH)
}

// accept serves the connections of ln until it is closed.
func (s *Sim) accept(node int, ln net.Listener, serve func(int, net.Conn)) error {
	if !s.hold(ln) {
		ln.Close()
		return nil
	}
	defer s.drop(ln)
	var conns sync.WaitGroup
	defer conns.Wait()
	open := make(map[net.Conn]struct{})
	var mu sync.Mutex // of open
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		for c := range open {
			c.Close()
		}
	}()
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) || err != nil && s.ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		}
		mu.Lock()
		open[conn] = struct{}{}
		mu.Unlock()
		conns.Go(func() {
			serve(node, conn)
			mu.Lock()
			delete(open, conn)
			mu.Unlock()
		})
	}
}

// Close ends all sessions and listeners and waits until nothing of the conductor runs any more.
func (s *Sim) Close() error {
	s.mu.Lock()
	s.closed = true
	var all []io.Closer
	for c := range s.closers {
		all = append(all, c)
	}
	s.mu.Unlock()
	s.cancel()
	for _, c := range all {
		c.Close()
	}
	s.serving.Wait()
	s.tasks.Wait()
	s.stores.stop()
	return s.history.Close()
}

// restart ends all sessions and logins, as a server does that is killed and starts again. Candidates are kept on disk; a commit
// that waited for being confirmed is undone (RFC 6241 §8.4.1).
func (s *Sim) restart() {
	s.mu.Lock()
	clear(s.tokens)
	for _, info := range s.sessions {
		if info.actor.Via == "netconf" {
			info.kill(errKilled)
			info.conn.Close()
		}
	}
	s.mu.Unlock()
	d := s.stores
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.confirm != nil {
		d.rollBack("the server was restarted")
	}
}

// Inject puts a fault in force; one of the same kind, operation, point and node is replaced.
func (s *Sim) Inject(f Fault) error { return s.faults.inject(f) }

// Clear ends faults of the given kinds, all with none given.
func (s *Sim) Clear(kinds ...FaultKind) {
	s.faults.clear(kinds...)
	if !s.faults.inForce(FaultRunningLags) {
		s.stores.catchUp()
	}
}

// Faults returns the faults in force.
func (s *Sim) Faults() []Fault { return s.faults.list() }

// History is what happened so far; it grows on.
func (s *Sim) History() *history.Log { return s.history }

// Running returns the running configuration; its root is the datastore.
func (s *Sim) Running() *Node { return s.stores.Read(Actor{Node: 1}, StoreRunning) }

// Candidate returns the candidate configuration that user works on at a node.
func (s *Sim) Candidate(user string, node int) *Node {
	return s.stores.Read(Actor{User: user, Node: node}, StoreCandidate)
}

// Addresses returns the addresses of a tenant's member in running, as stored.
func (s *Sim) Addresses(tenant, member string) []string {
	var out []string
	for a := range s.Running().authority().Child("tenant", tenant).Child("member", member).All("address") {
		out = append(out, a.Value)
	}
	return out
}

// Sessions returns who has a session open, by session-id.
func (s *Sim) Sessions() []Actor {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Actor
	for _, info := range s.sessions {
		out = append(out, info.actor)
	}
	slices.SortFunc(out, func(a, b Actor) int { return cmp.Compare(a.Session, b.Session) })
	return out
}

// ClientKey returns the private key that may log in, as PEM (the content of client_key).
func (s *Sim) ClientKey() []byte { return s.keys.clientPEM }

// HostKey is the conductor's own key.
func (s *Sim) HostKey() ssh.PublicKey { return s.keys.host.PublicKey() }

// Authorize lets another key in.
func (s *Sim) Authorize(key ssh.PublicKey) { s.keys.authorize(key) }

// KnownHosts returns known_hosts lines for all addresses served so far.
func (s *Sim) KnownHosts() []byte {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	return s.keys.knownHosts()
}

// Startup is what running will be after a restart, nil where nothing was saved.
func (s *Sim) Startup() *Node {
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	return s.stores.startup
}
