package fail2ban

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"banmesh/store"
)

const (
	// notifyEvery is how often the queue is looked at without being poked.
	notifyEvery = 5 * time.Second

	// retryFirst and retryMost bound the pause after a failure, for all of
	// fail2ban or for one jail; it doubles each time.
	retryFirst = 2 * time.Second
	retryMost  = 5 * time.Minute

	// strangerGrace is how long a jail of which no hook ever told is waited for,
	// where fail2ban says that it has no such jail: it may be starting.
	strangerGrace = 2 * time.Minute

	// batchPause keeps a long queue from holding up fail2ban's own work.
	batchPause = 250 * time.Millisecond
)

// notices is the part of the replicated set that the Notifier works on: what the
// local fail2ban must be told, durably, and a place to remember what it was told.
type notices interface {
	Notices() []store.Notice
	DoneNotice(ctx context.Context, ids ...uint64) error
	Allows() []store.AllowEntry
	SaveMeta(ctx context.Context, key string, value []byte) error
	Meta(key string) ([]byte, bool)
}

// NotifierConfig is what a Notifier works on.
type NotifierConfig struct {
	Set    notices
	Client *Client
	Hooks  *Hooks // told which unban hooks will be mere echoes
	// Holds reports whether this router has a live ban of its own of that jail and prefix; nil: always.
	Holds  func(jail string, p netip.Prefix) bool
	Silent bool // `fail2ban.unban: false`: drop the notices, tell nothing
	Bounds Bounds
	Now    func() time.Time // of bans and notices; default time.Now. Pauses are measured apart: that clock may step
	Logger *slog.Logger
}

// Notifier tells the local fail2ban what the mesh lifted and allowed, never from
// inside an action of fail2ban. What it has to tell is durable; fail2ban may be
// away for as long as the bans live.
type Notifier struct {
	set    notices
	client *Client
	hooks  *Hooks
	holds  func(jail string, p netip.Prefix) bool
	silent bool
	now    func() time.Time
	log    *slog.Logger
	poke   chan struct{} // holds at most one

	allowance allowance
	trouble   trouble

	// Run's goroutine owns what follows.
	away    backoff             // fail2ban as a whole
	jails   map[string]*backoff // jails that fail2ban does not have now
	known   book                // jails that exist in fail2ban, durable
	ignored ignoredBook
	next    time.Time // when the ignore lists are to be looked at again
	paused  time.Time // not before: spacing of the batches
}

// backoff is a pause that doubles.
// fail2ban may be away for days; asking it every few seconds would start a process each time.
type backoff struct {
	since, until time.Time
	pause        time.Duration
}

// failed doubles the pause; since is when the trouble began, which a warning shows.
func (b *backoff) failed(now time.Time) {
	if b.since.IsZero() {
		b.since = now
	}
	b.pause = min(max(2*b.pause, retryFirst), retryMost)
	b.until = now.Add(b.pause)
}

// NewNotifier returns a Notifier; Run does the work.
func NewNotifier(c NotifierConfig) *Notifier {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Holds == nil {
		c.Holds = func(string, netip.Prefix) bool { return true }
	}
	n := &Notifier{
		holds: c.Holds,
		set:   c.Set, client: c.Client, hooks: c.Hooks, silent: c.Silent, now: c.Now, log: c.Logger,
		poke:  make(chan struct{}, 1),
		jails: make(map[string]*backoff),
	}
	n.allowance.bounds = c.Bounds
	n.known = loadBook(c.Set)
	n.ignored = loadIgnored(c.Set)
	return n
}

// Poke says that there may be something new to tell. It never blocks.
func (n *Notifier) Poke() {
	select {
	case n.poke <- struct{}{}:
	default:
	}
}

// Run tells fail2ban what there is to tell, until ctx ends.
func (n *Notifier) Run(ctx context.Context) error {
	tick := time.NewTicker(notifyEvery)
	defer tick.Stop()
	for {
		n.round(ctx)
		n.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case what := <-n.hooks.heard:
			n.meet(ctx, what.jail)
			if what.started {
				n.jailStarted(what.jail)
			}
		case <-n.poke:
		case <-tick.C:
		}
	}
}

// jailStarted forgets what was found out while the jail was away, and has the
// ignore lists told again: fail2ban keeps them in memory only.
func (n *Notifier) jailStarted(jail string) {
	n.away = backoff{}
	delete(n.jails, jail)
	n.next = time.Time{}
}

// meet remembers that fail2ban has a jail of that name, at least from time to
// time.
func (n *Notifier) meet(ctx context.Context, jail string) {
	if n.silent || !n.known.add(jail) {
		return
	}
	if err := n.known.save(ctx, n.set); err != nil {
		n.log.Warn("remember a jail of fail2ban", "jail", jail, "error", err)
	}
}

// round works once through everything that can be told now.
func (n *Notifier) round(ctx context.Context) {
	notices := n.set.Notices()
	if n.silent {
		n.done(ctx, notices)
		return
	}
	now := store.At(n.now())
	if time.Until(n.away.until) > 0 {
		return
	}
	var allows, over []store.Notice
	unbans := make(map[string][]store.Notice)
	var order []string
	for _, notice := range notices {
		switch {
		case notice.Until <= now:
			over = append(over, notice) // the ban or the allow has ended by itself
		case notice.Kind == store.NoticeAllow:
			allows = append(allows, notice)
		default:
			if len(unbans[notice.Jail]) == 0 {
				order = append(order, notice.Jail)
			}
			unbans[notice.Jail] = append(unbans[notice.Jail], notice)
		}
	}
	n.done(ctx, over)
	err := n.notifyAllows(ctx, allows)
	for _, jail := range order {
		if absent(err) || ctx.Err() != nil {
			break
		}
		if b := n.jails[jail]; b != nil && time.Until(b.until) > 0 {
			continue
		}
		err = errors.Join(err, n.notifyUnbans(ctx, jail, unbans[jail]))
	}
	n.judge(ctx, err)
}

// absent reports whether fail2ban as a whole does not answer, so that there is no
// use in asking for the next jail.
func absent(err error) bool {
	return errors.Is(err, ErrNotRunning) || errors.Is(err, ErrNoClient) ||
		errors.Is(err, ErrDenied) || errors.Is(err, ErrTimeout)
}

// judge takes note of how fail2ban as a whole answered.
func (n *Notifier) judge(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case err == nil:
		n.away = backoff{}
	default:
		n.trouble.note(whole(err))
		first := n.away.since.IsZero()
		n.away.failed(time.Now())
		level := slog.LevelDebug
		if first {
			level = slog.LevelWarn
		}
		n.log.Log(ctx, level, "fail2ban cannot be told, trying again", "error", err, "in", n.away.pause)
	}
}

// notifyUnbans has one jail let go what was lifted. A newer offence is spared.
func (n *Notifier) notifyUnbans(ctx context.Context, jail string, notices []store.Notice) error {
	if n.hooks.isMeshJail(jail) {
		n.done(ctx, notices) // what it holds are peers' bans, and package jail's matter
		return nil
	}
	held, err := n.client.Banned(ctx, jail)
	if errors.Is(err, ErrNoJail) {
		n.noJail(ctx, jail, notices)
		return nil
	}
	if errors.Is(err, ErrNoClient) && !n.known.has(jail) {
		n.done(ctx, notices) // no fail2ban on this router, and there never was
		return nil
	}
	if err != nil {
		return err
	}
	delete(n.jails, jail)
	n.meet(ctx, jail)

	byPrefix := make(map[netip.Prefix]Banned, len(held))
	for _, b := range held {
		byPrefix[b.Prefix] = b
	}
	var gone, meant []store.Notice
	for _, notice := range notices {
		b, ok := byPrefix[notice.Prefix]
		// fail2ban may hold a later offence, which stays. Its start alone does not tell: where the clock has stepped since the ban
		// began, fail2ban's time of it is off by that step. So this router must have taken the later one in, or be about to.
		later := b.Start.After(notice.Start.Time().Add(rounding))
		switch {
		case !ok, later && n.holds(jail, b.Prefix):
			gone = append(gone, notice)
		case later && n.now().Sub(b.Start).Abs() < hookTime:
			// The hook may be under way: a later round tells.
		default:
			meant = append(meant, notice)
		}
	}
	n.done(ctx, gone)
	may := n.allowance.take(time.Now(), len(meant))
	n.allowance.leave("unban "+jail, len(meant)-may)
	for batch := range slices.Chunk(meant[:may], maxBatch) {
		var prefixes []netip.Prefix
		var echoes []Banned
		for _, notice := range batch {
			prefixes = append(prefixes, notice.Prefix)
			echoes = append(echoes, byPrefix[notice.Prefix])
		}
		if err := n.unban(ctx, jail, prefixes, echoes); err != nil {
			return err
		}
		n.done(ctx, batch)
	}
	return nil
}

// hookTime is how long the hook of a new ban may be under way.
const hookTime = time.Minute

// unban tells one batch, with a pause since the last one.
func (n *Notifier) unban(ctx context.Context, jail string, prefixes []netip.Prefix, echoes []Banned) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(n.paused)):
	}
	n.hooks.expect(jail, echoes)
	err := n.client.Unban(ctx, jail, prefixes)
	n.paused = time.Now().Add(batchPause)
	if err == nil {
		n.log.Info("told fail2ban to unban", "jail", jail, "addresses", len(prefixes))
	}
	return err
}

// noJail decides what becomes of notices of a jail that fail2ban does not have:
// one that it once had may come back with its bans; others are names that only
// the mesh uses.
func (n *Notifier) noJail(ctx context.Context, jail string, notices []store.Notice) {
	b := n.jails[jail]
	if b == nil {
		b = &backoff{}
		n.jails[jail] = b
	}
	b.failed(time.Now())
	if n.known.has(jail) || jail != store.ManualJail && time.Since(b.since) < strangerGrace {
		return
	}
	delete(n.jails, jail)
	n.done(ctx, notices)
}

// done takes notices off the queue. Where that fails they are told once more,
// which does no harm.
func (n *Notifier) done(ctx context.Context, notices []store.Notice) {
	if len(notices) == 0 {
		return
	}
	ids := make([]uint64, len(notices))
	for i, notice := range notices {
		ids[i] = notice.ID
	}
	if err := n.set.DoneNotice(ctx, ids...); err != nil && ctx.Err() == nil {
		n.log.Warn("take told notices off the queue", "error", err)
	}
}
