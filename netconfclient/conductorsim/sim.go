package conductorsim

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"banmesh/netconfclient/conductorsim/history"
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
	// history.jsonl, faults.sock and, with REST, rest_cert.pem and rest_key.pem. "" keeps everything in memory.
	Dir string
	// Initial is the configuration to start with, as XML, where Dir holds none.
	Initial []byte

	Users    []string // who may log in with a key of authorized_keys
	Password string   // of every user, for REST
	Nodes    int      // 1, or 2 for a pair: node 1 and 2 over one running configuration
	Features Features
	Style    Style
	Dialect  Dialect
	Storage  Storage
	// CommitDelay is how long each commit takes.
	CommitDelay time.Duration
	// DiscardOnUnlock drops the candidate's edits when its lock is released, as RFC 6241 §8.3.5.2 wants and the
	// device (up to 5.2) does not do.
	DiscardOnUnlock bool
	// PatchReplaces makes a REST PATCH of a list of addresses replace it; else it merges.
	PatchReplaces bool

	MaxMessage int // bytes of one request
	MaxDepth   int // of its elements

	Now    func() time.Time
	Logger *slog.Logger
}

// DefaultConfig is a 5.2 conductor of one node, in memory, that commits at once.
func DefaultConfig() Config {
	return Config{Users: []string{"admin"}, Password: "admin", Nodes: 1, Features: AllFeatures(), Style: Style52,
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
	history *history.Log

	ctx    context.Context // ends with Close: what still waits (delays, frozen sessions) gives up
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	closers   map[interface{ Close() error }]struct{}
	sessions  map[uint64]*sessionInfo
	nextID    uint64
	addresses []net.Addr
}
