package fail2ban

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"banmesh/store"
)

// Event is one of the commands of a fail2ban action.
type Event string

// The events; each is a command of examples/fail2ban/action.d/banmesh.conf.
const (
	EventStart   Event = "start"
	EventStop    Event = "stop"
	EventFlush   Event = "flush"
	EventBan     Event = "ban"
	EventProlong Event = "prolong"
	EventUnban   Event = "unban"
)

// Call is one call of a fail2ban action. Start, Stop and Flush have only a Jail and a Called.
type Call struct {
	Event    Event
	Jail     string
	Prefix   netip.Prefix
	Start    time.Time     // <time>: of the last failure, or of `banip`
	BanTime  time.Duration // <bantime>; negative: without end
	Failures uint32        // 0 for a `banip`
	Restored bool          // fail2ban repeats it at its start
	Called   time.Time     // when fail2ban called; in the past if it was spooled
	Ahead    bool          // Start lies ahead, of a ban that is not known: the clock was set back since
}

// until is when the ban ends: start and bantime stay the same over restarts.
func (c Call) until() store.Millis {
	if c.BanTime < 0 {
		return store.Never
	}
	return store.At(c.Start.Add(c.BanTime))
}

// over reports whether the ban had already ended when fail2ban reported it.
func (c Call) over() bool {
	return c.BanTime >= 0 && !c.Called.Before(c.Start.Add(c.BanTime).Add(-rounding))
}

// ErrBadCall is returned for a call that no action makes.
var ErrBadCall = errors.New("bad call of a fail2ban action")

const (
	// rounding is how far the times of one ban may lie apart: both the database of fail2ban and its list round to the second.
	rounding = 2 * time.Second

	// flushFirst, flushRetry and flushPatience time the look at a flushed jail:
	// after `unban --all` fail2ban unbans each address through the other actions
	// before it answers again, which can take minutes.
	flushFirst    = 5 * time.Second
	flushRetry    = 15 * time.Second
	flushPatience = 15 * time.Minute

	// flushConfirm is how long an answer must stand. A stop's hook that found the
	// agent busy lies in the spool for up to a second.
	flushConfirm = 3 * time.Second
)

// replicatedSet is the part of the replicated set that the hooks write.
type replicatedSet interface {
	Ban(ctx context.Context, bans []store.BanRequest) ([]store.Banned, error)
	Lift(ctx context.Context, lift store.LiftRequest) ([]store.Lifted, error)
}

// HooksConfig is what Hooks works on.
type HooksConfig struct {
	Set      replicatedSet
	Client   *Client
	Shares   func(jail string) bool // whether a jail's bans leave this router; nil: all do
	MeshJail MeshJail               // enforce.driver fail2ban; nil: no jail holds the peers' bans
	Now      func() time.Time       // default time.Now
	Logger   *slog.Logger
}

// Hooks gives the calls of the fail2ban action their meaning. Handle writes to
// the set only and never asks fail2ban, which waits for the call to return. Run
// does what has to be asked, later.
type Hooks struct {
	set      replicatedSet
	client   *Client
	shares   func(string) bool
	meshJail MeshJail
	now      func() time.Time
	log      *slog.Logger

	heard chan heard // for the Notifier; never blocks the hooks

	mu      sync.Mutex
	jails   map[string]bool   // that called since the agent's start
	flushed map[string]*flush // by jail; in memory only: what a crash forgets stays banned
	echoes  map[echo]time.Time
	changed chan struct{} // wakes Run; holds at most one
}

// NewHooks returns Hooks; Run must be running for flushes to have an effect.
func NewHooks(c HooksConfig) *Hooks {
	if c.Shares == nil {
		c.Shares = func(string) bool { return true }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Hooks{
		set: c.Set, client: c.Client, shares: c.Shares, meshJail: c.MeshJail, now: c.Now, log: c.Logger,
		heard:   make(chan heard, 64),
		jails:   make(map[string]bool),
		flushed: make(map[string]*flush),
		echoes:  make(map[echo]time.Time),
		changed: make(chan struct{}, 1),
	}
}

// Handle does what a call means. When it returns no error a ban or a lift is
// durable, unless note says otherwise: a sentence for fail2ban's log about a ban
// that does not count. An error of the set is passed on; *store.InvalidError says
// that the call will never be taken.
func (h *Hooks) Handle(ctx context.Context, c Call) (note string, err error) {
	if c.Jail == "" {
		return "", fmt.Errorf("%w: no jail", ErrBadCall)
	}
	if c.Called.IsZero() {
		c.Called = h.now()
	}
	switch c.Event {
	case EventStart:
		h.forgetFlush(c.Jail)
		if h.isMeshJail(c.Jail) {
			h.meshJail.Started()
			return "", nil
		}
		h.tell(heard{c.Jail, true})
		return "", nil
	case EventStop:
		h.forgetFlush(c.Jail)
		return "", nil
	case EventFlush:
		h.noteFlush(c.Jail, c.Called)
		return "", nil
	case EventBan, EventProlong, EventUnban:
		if !c.Prefix.IsValid() || c.Start.IsZero() {
			return "", fmt.Errorf("%w: %s without an address or a time", ErrBadCall, c.Event)
		}
		if h.isMeshJail(c.Jail) {
			return "", h.ofMeshJail(ctx, c)
		}
		if !h.shares(c.Jail) {
			return "", nil
		}
		if c.Event == EventUnban {
			return "", h.unban(ctx, c)
		}
		return h.ban(ctx, c)
	}
	return "", fmt.Errorf("%w: unknown event %q", ErrBadCall, c.Event)
}

// isMeshJail reports whether a jail is the one that holds the peers' bans.
func (h *Hooks) isMeshJail(jail string) bool { return h.meshJail != nil && jail == h.meshJail.Jail() }

// ofMeshJail takes a call of the mesh jail: none of its bans is this router's own.
func (h *Hooks) ofMeshJail(ctx context.Context, c Call) error {
	if c.Event == EventUnban && !c.over() {
		return h.meshJail.Unbanned(ctx, c.Prefix, c.Start)
	}
	if c.Event == EventBan && !c.Restored {
		h.log.Warn("the jail that is fed tells of a ban, which is not taken: remove banmesh's actionban from it", "jail", c.Jail)
	}
	return nil
}

// heard says that fail2ban has a jail of that name, which may just have started.
type heard struct {
	jail    string
	started bool
}

// tell never waits: a hook has a second, and fail2ban waits for it.
func (h *Hooks) tell(what heard) {
	select {
	case h.heard <- what:
	default: // the Notifier looks for itself from time to time
	}
}

// ban takes in a ban or its prolongation, which is the same ban with a longer
// time.
func (h *Hooks) ban(ctx context.Context, c Call) (note string, err error) {
	h.noteBan(c)
	h.mu.Lock()
	known := h.jails[c.Jail]
	h.jails[c.Jail] = true
	h.mu.Unlock()
	if !known {
		h.tell(heard{c.Jail, false})
	}
	switch {
	case c.Ahead && c.Event == EventBan && c.Restored:
		// The mesh was told when the ban was given and still has it, unless it has ended or was lifted: as another offence it
		// would come back.
		return "not shared: its start lies in the future, so it is from before the clock was set back; fail2ban alone bans it", nil
	case c.Ahead:
		now := h.now()
		if c.Event == EventProlong && c.BanTime >= 0 { // its end was reckoned by today's clock
			c.BanTime += c.Start.Sub(now)
		}
		c.Start = now
	}
	banned, err := h.set.Ban(ctx, []store.BanRequest{{
		Prefix:   c.Prefix,
		Jail:     c.Jail,
		Start:    store.At(c.Start),
		Until:    c.until(),
		Failures: c.Failures,
		Restored: c.Restored && c.Event == EventBan,
	}})
	if err != nil || len(banned) == 0 {
		return "", err
	}
	switch banned[0].Outcome {
	case store.BanStaysLifted:
		return "stays unbanned in the mesh: this very offence was lifted; fail2ban alone bans it until it ends or is unbanned there", nil
	case store.BanOverLimit:
		return "not shared: this router holds as many records as it may (limits.stored_per_origin); fail2ban alone bans it", nil
	}
	return "", nil
}

// unban lifts this router's own ban where a human unbanned the address before
// its time was over.
func (h *Hooks) unban(ctx context.Context, c Call) error {
	if c.over() {
		return nil
	}
	if h.expected(c.Jail, c.Prefix, c.Start) {
		return nil // we told it to
	}
	_, err := h.set.Lift(ctx, store.LiftRequest{
		Prefixes:      []netip.Prefix{c.Prefix},
		Jail:          c.Jail,
		Mine:          true,
		StartedBefore: store.At(c.Start.Add(rounding)), // spares a newer offence
		FromFail2ban:  true,
	})
	return err
}
