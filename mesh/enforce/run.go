package enforce

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"banmesh/store"
)

const (
	// Polling will do: the wait comes once in the life of an agent.
	settledPoll = 100 * time.Millisecond // how often Run checks whether the first exchange is over
	look        = time.Second            // the pace of checks for what comes without an event: allows that end, leases that run out
	reconcile   = time.Minute            // the pace of comparing everything wanted with everything assumed

	// pace keeps a storm of single changes from becoming as many batches. The first change does not wait.
	pace = 2 * time.Millisecond

	counting = 10 * time.Second // the pace of reading the drop counters

	retryFirst = time.Second // after an error; doubled until it is a minute
	retryLast  = time.Minute

	staleTries = 3 // how often in a row the router's content is looked up again at once

	// sample is how many elements are looked up each minute: the kernel's events alone are not relied on.
	sample = 64
)

// worker is what Run needs besides the router's state.
// Flags instead of a queue of tasks: each says that something is due, setting one twice is the same, and step does what is
// due in a fixed order.
type worker struct {
	*Enforcer
	all        bool          // compare everything
	read       bool          // first read what the router actually holds
	layout     bool          // check what the elements are in
	check      bool          // a minute has passed
	look       bool          // the exemptions may have changed without an event
	exemptions *netipx.IPSet // as of the last comparison of them
	frozen     bool          // as of the last look
	retry      time.Duration // after the next error
	owed       time.Time     // since when the router is behind, apart from the queue; zero while it is not
	ready      bool          // everything has been compared and applied once since the start or the last error
	counted    time.Time     // when the counters were last read
	wall       time.Time     // the agent's time when it was last found to have moved, without a monotonic reading
	steady     time.Time     // that moment
	stale      int           // how many batches of comparisons in a row did not fit the router's content

	job       *job
	result    *result // of the job
	readBegan time.Time
	readAfter time.Time // no reading before, see readShare
	todo      batch     // what the last comparison found and is not applied yet
	todoJob   *job      // that comparison
	tidy      bool      // the comparison covers scraps too
}

// Run enforces until ctx ends and then returns nil: a router that refuses shows as a State, not as an error. What is enforced
// stays, so that neither a restart nor a crash lets anybody in.
func (e *Enforcer) Run(ctx context.Context) error {
	if !e.awaitSettled(ctx) {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		e.watch(ctx)
	}()
	defer func() { cancel(); <-watched }()

	w := e.worker()
	// The watch reports Lost once it sees everything; a reading before that would miss what happens in between.
	select {
	case <-ctx.Done():
		return nil
	case <-e.queue.wake:
	case <-time.After(look):
	}
	looks, minutes := time.NewTicker(look), time.NewTicker(reconcile)
	defer looks.Stop()
	defer minutes.Stop()
	for {
		wait, before := time.Duration(0), w.router.batches
		if err := w.step(ctx); ctx.Err() != nil {
			return nil
		} else if err != nil {
			wait = w.failed(err)
		} else if w.router.batches > before && w.todo.len() == 0 {
			// Only after a batch: a step that changed nothing costs nothing to repeat.
			wait = pace
		}
		if wait > 0 {
			pause := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-pause.C:
			}
			pause.Stop()
		}
		var done chan result
		if w.job != nil {
			done = w.job.done
		}
		var more chan struct{}
		if w.todo.len() > 0 {
			// A case that is always ready, so that the select below picks it among the others: news and new bans come between
			// two batches.
			more = ready
		}
		select {
		case <-ctx.Done():
			return nil
		case r := <-done:
			w.result = &r
		case <-more:
		case <-minutes.C:
			w.check = true
		case <-looks.C:
			w.look = true
		case <-e.queue.wake:
		}
	}
}

// warn records what the router cannot promise, and logs it once.
func (e *Enforcer) warn(caveat string) {
	e.mu.Lock()
	before := e.status.Caveat
	e.status.Caveat = caveat
	e.mu.Unlock()
	if caveat != "" && caveat != before {
		e.log.Warn("enforcement has a limit", "caveat", caveat)
	}
}

func (e *Enforcer) worker() *worker {
	return &worker{Enforcer: e, all: true, read: true, layout: true, retry: retryFirst, wall: e.cfg.Now().Round(0), steady: time.Now()}
}

// stepped reports whether the agent's time has moved since the last call that said so, as where the clock is set or turns out
// to be wrong. The kernel counts down what was left of each ban by the former time: its elements end too early or too late,
// and one that is taken for expired may still drop.
func (w *worker) stepped() bool {
	now, steady := w.cfg.Now().Round(0), time.Now()
	if (now.Sub(w.wall) - steady.Sub(w.steady)).Abs().Milliseconds() <= int64(slack) {
		return false
	}
	w.wall, w.steady = now, steady
	return true
}

// ready is always.
var ready = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// watch follows what others do to the router.
func (e *Enforcer) watch(ctx context.Context) {
	wait := retryFirst
	for ctx.Err() == nil {
		began := time.Now()
		if err := e.cfg.Driver.Watch(ctx, e.queue.tell); err != nil {
			e.log.Debug("what others do to the router is not seen", "error", err)
			e.queue.tell(News{Lost: true})
		}
		if time.Since(began) > retryLast {
			wait = retryFirst
		}
		pause := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
		wait = min(2*wait, retryLast)
	}
}

// awaitSettled keeps an agent that has heard nothing yet from removing what is in the kernel from before its
// restart. It returns false if the agent stops first.
func (e *Enforcer) awaitSettled(ctx context.Context) bool {
	ticker := time.NewTicker(settledPoll)
	defer ticker.Stop()
	for !e.cfg.Settled() {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return ctx.Err() == nil
}

// step brings the router closer to the set: by what has changed, and by a part of what the last comparison found.
func (w *worker) step(ctx context.Context) error {
	news := w.queue.takeNews()
	w.read = w.read || w.stepped()
	// The layout is looked at each minute as well, in case a report of the kernel was lost without a sign.
	if news.Lost || w.check {
		w.layout, w.read = true, w.read || news.Lost
	}
	if w.layout = w.layout || news.Layout; w.layout {
		if err := w.fix(ctx); err != nil {
			return err
		}
	}
	if w.result != nil {
		if err := w.finish(); err != nil {
			return err
		}
	}
	regions, err := w.heard(ctx, news.Elements)
	if err != nil {
		return err
	}
	if err := w.follow(ctx, append(regions, w.changes()...)); err != nil {
		return err
	}
	if err := w.advance(ctx); err != nil {
		return err
	}
	if w.check {
		if err := w.minute(ctx); err != nil {
			return err
		}
	}
	if w.ready && time.Since(w.counted) >= counting {
		w.count(ctx)
	}
	w.begin(ctx)
	w.succeeded()
	return nil
}

// fix checks what the elements are in.
func (w *worker) fix(ctx context.Context) error {
	err := w.cfg.Driver.Fix(ctx)
	w.warn(w.cfg.Driver.Caveat())
	switch {
	case err == nil:
		w.router.anew, w.router.whole = false, false
	case errors.Is(err, ErrAbsent), w.replaces(err):
		w.lose(!errors.Is(err, ErrAbsent))
	default:
		return err
	}
	w.layout = false
	return nil
}

// replaces reports whether the error means that the router's content is unknown and may be replaced: while frozen, what was
// held must be known.
func (w *worker) replaces(err error) bool {
	frozen, _ := w.cfg.Set.Frozen()
	return errors.Is(err, ErrUnreadable) && (!frozen || w.router.known)
}

// lose records that everything must be made anew.
func (w *worker) lose(whole bool) {
	w.abandon()
	w.router.lose(whole)
	// What has been lost need not be read; it is made from what is wanted.
	w.all, w.read = true, false
}

// abandon drops a job and its result.
func (w *worker) abandon() {
	w.job, w.result, w.todo, w.todoJob = nil, nil, batch{}, nil
}

// heard examines what somebody else has changed, and returns where the router no longer holds what it should.
func (w *worker) heard(ctx context.Context, elements []netip.Addr) ([]netip.Prefix, error) {
	if len(elements) == 0 || !w.router.known || w.router.anew {
		return nil, nil
	}
	where, _, err := w.router.learn(ctx, w.now(), elements)
	return where, err
}

// changes takes the queue's entries and examines those that need no comparison. It reads the exemptions before the bans: if
// they change in between, the next look sees it. Allows come with an event that says where, so that one among many does not
// cost as much as a comparison of all.
func (w *worker) changes() []netip.Prefix {
	some, all, look, since := w.queue.take()
	if w.owed.IsZero() {
		w.owed = since
	}
	frozen, _ := w.cfg.Set.Frozen()
	if w.all = w.all || all; w.frozen != frozen {
		w.abandon()
		w.frozen, w.all = frozen, true
	}
	if w.look = w.look || look; w.look || w.exemptions == nil {
		maps.Copy(some, w.queue.takeExempt()) // the exemptions of the last comparison were other ones there
		exemptions := w.cfg.Set.Exemptions()
		if w.exemptions == nil {
			w.all = true
		} else {
			for _, p := range shifted(w.exemptions, exemptions) {
				some[p] = struct{}{}
			}
		}
		w.exemptions, w.look = exemptions, false
	}
	if len(some) > most {
		w.all = true
		clear(some)
	}
	return slices.Collect(maps.Keys(some))
}

// follow makes the router hold what is wanted in some regions.
func (w *worker) follow(ctx context.Context, regions []netip.Prefix) error {
	if regions = disjoint(regions); len(regions) == 0 {
		return nil
	}
	if !w.router.known || w.router.whole || w.router.anew && w.frozen { // the comparison that follows covers it
		w.all = true
		return nil
	}
	for _, j := range []*job{w.job, w.todoJob} {
		if j != nil {
			j.touch(holesOf(regions))
		}
	}
	err := w.insist(ctx, func() error {
		return w.router.becomeIn(ctx, w.now(), regions, wantedIn(w.cfg.Set, regions), w.frozen, false)
	})
	if errors.Is(err, ErrStale) {
		w.all, w.read, w.layout = true, true, true
		return nil
	}
	return err
}

// insist runs f, and again after looking up the router's actual content if it differs: an element expired just now, or somebody
// else changed something.
func (w *worker) insist(ctx context.Context, f func() error) (err error) {
	// An element that expired just now explains one refusal, a second one by chance another. More means that something else
	// writes there.
	for range staleTries {
		if err = f(); !errors.Is(err, ErrStale) {
			return err
		}
		if failed := w.learn(ctx, w.router.stale); failed != nil {
			return failed
		}
	}
	return err
}

// learn looks up what the router holds at some addresses; where that differs from what was assumed, the next step examines what
// is wanted there.
func (w *worker) learn(ctx context.Context, addresses []netip.Addr) error {
	where, _, err := w.router.learn(ctx, w.now(), addresses)
	w.queue.again(where)
	return err
}

// advance applies a part of what the last comparison found.
func (w *worker) advance(ctx context.Context) error {
	if w.todoJob == nil {
		return nil
	}
	var b batch
	if w.router.whole {
		b, w.todo = w.todo, batch{}
	} else {
		b = cut(&w.todo.del, &w.todo.add, w.router.size)
	}
	if skip(&b.del, &b.add, w.todoJob.dirty) {
		w.all = true
	}
	var err error
	// A deletion lets somebody in, and the comparison may have missed a change made just then: judge by the set as it is now.
	if b.del.len() > 0 {
		regions := b.regions()
		err = w.router.becomeIn(ctx, w.now(), regions, wantedIn(w.cfg.Set, regions), w.frozen, w.tidy)
	} else {
		err = w.router.apply(ctx, w.now(), b)
	}
	if errors.Is(err, ErrStale) {
		w.abandon()
		w.all = true
		// Looking up single places did not help, so that everything is read.
		if w.stale++; w.stale >= staleTries {
			w.stale, w.read, w.layout = 0, true, true
		}
		return w.learn(ctx, w.router.stale)
	}
	if err != nil {
		return err
	}
	if w.todo.len() == 0 {
		w.todo, w.todoJob, w.stale, w.ready = batch{}, nil, 0, true
	}
	return nil
}

// minute does what is due each minute.
func (w *worker) minute(ctx context.Context) error {
	w.check, w.all = false, true
	if w.router.known && !w.router.anew {
		if err := w.verify(ctx); err != nil {
			return err
		}
	}
	return nil
}

// verify looks up a sample. If elements are missing or extra, everything is read. A different end alone is no reason: elements
// loaded in one step of several seconds differ in that.
func (w *worker) verify(ctx context.Context) error {
	var some []netip.Addr
	for f := range families {
		for _, s := range w.router.held[f].some(sample, w.random) {
			some = append(some, s.from.in(f))
		}
	}
	where, torn, err := w.router.learn(ctx, w.now(), some)
	w.read = w.read || torn
	w.queue.again(where)
	return err
}

// begin starts the next job if one is due.
func (w *worker) begin(ctx context.Context) {
	switch {
	case w.job != nil || w.todoJob != nil:
	case w.read && !w.router.anew && !time.Now().Before(w.readAfter):
		w.read, w.readBegan = false, time.Now()
		w.job = w.readJob(ctx)
	case w.all && w.router.known:
		w.all = false
		w.job = w.compareJob()
	}
}

func (w *worker) now() store.Millis { return store.At(w.cfg.Now()) }
