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
	settledPoll = 100 * time.Millisecond // how often it is asked whether the first exchange is over
	look        = time.Second            // the pace of what comes without an event: allows that end, leases that run out, rules flushed
	reconcile   = time.Minute            // the pace of comparing all with the router

	// pace keeps a storm of single changes from being as many batches: a batch costs the kernel time that grows with all
	// that it holds. The first change does not wait.
	pace = 5 * time.Millisecond

	retryFirst = time.Second // after an error; doubled until it is a minute
	retryLast  = time.Minute

	staleTries = 3 // how often at once what the router holds is read anew
)

// worker is what Run knows beside the router's state.
type worker struct {
	*Enforcer
	all    bool          // compare everything
	check  bool          // likewise, and with what the router really holds
	shield *netipx.IPSet // as of the last look
	frozen bool          // likewise
	glance bool          // see whether all is gone
	retry  time.Duration // after the next error
}

// Run enforces until ctx ends, and returns nil then: a router that refuses is a State, not an error. What is enforced
// stays, so that neither a restart nor a crash lets anybody in.
func (e *Enforcer) Run(ctx context.Context) error {
	if !e.awaitSettled(ctx) {
		return nil
	}
	w := &worker{Enforcer: e, all: true, check: true, retry: retryFirst}
	looks, minutes := time.NewTicker(look), time.NewTicker(reconcile)
	defer looks.Stop()
	defer minutes.Stop()
	for {
		wait := pace
		if err := w.step(ctx); ctx.Err() != nil {
			return nil
		} else if err != nil {
			wait = w.failed(err)
		}
		pause := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
		select {
		case <-ctx.Done():
			return nil
		case <-minutes.C:
			w.check = true
		case <-looks.C:
			w.glance = true
		case <-e.queue.wake:
		}
	}
}

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

// step brings the router in line with the set.
func (w *worker) step(ctx context.Context) error {
	if w.glance && w.cfg.Driver.Gone(ctx) {
		w.check = true
	}
	w.glance = false
	regions := w.changes()
	if w.router.unknown || w.check && w.cfg.Driver.Touched(ctx) {
		w.router.unknown, w.all = true, true
	}
	if w.check {
		w.all = true
	}
	var err error
	switch {
	case w.all:
		err = w.stepAll(ctx)
	case len(regions) > 0:
		err = w.router.becomeIn(ctx, w.now(), regions, wantedIn(w.cfg.Set, regions), w.frozen)
		if errors.Is(err, ErrStale) { // an element ended just now, or somebody else was here
			err = w.stepAll(ctx)
		}
	}
	if err != nil {
		return err
	}
	if w.check {
		w.count(ctx)
	}
	w.succeeded()
	return nil
}

// changes takes what is in the queue and looks at what has no place there. The shield is looked at before the bans: if it
// changes in between, the next look sees that.
func (w *worker) changes() []netip.Prefix {
	some, all := w.queue.take()
	frozen, _ := w.cfg.Set.Frozen()
	w.all = w.all || all || w.frozen && !frozen
	w.frozen = frozen
	shield := w.cfg.Set.Shield()
	if w.shield == nil {
		w.all = true
	} else {
		for _, p := range shifted(w.shield, shield) {
			some[p] = struct{}{}
		}
	}
	w.shield = shield
	if w.all || len(some) > most {
		w.all = true
		return nil
	}
	return disjoint(slices.Collect(maps.Keys(some)))
}

// stepAll compares everything, and reads first what the router holds where that is not known.
func (w *worker) stepAll(ctx context.Context) error {
	w.all = true
	var err error
	for range staleTries {
		if w.router.unknown {
			switch err = w.router.read(ctx, w.cfg.Now); {
			case errors.Is(err, ErrUnreadable) && !w.frozen:
				w.router.hold(nil, w.now())
			case err != nil:
				return err
			}
		}
		if err = w.router.become(ctx, w.now(), wanted(w.cfg.Set), w.frozen); !errors.Is(err, ErrStale) {
			break
		}
	}
	w.all = err != nil
	return err
}

func (w *worker) now() store.Millis { return store.At(w.cfg.Now()) }
