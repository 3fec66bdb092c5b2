package fail2ban

import (
	"context"
	"errors"
	"time"

	"banmesh/store"
)

// fail2ban calls flush both when a jail stops and when everything is unbanned by hand, without saying which. Both empty the
// jail's list at once. But after an unban by hand, fail2ban answers for the jail again, still running; after a stop, the stop
// hook has come or fail2ban does not answer.

// flush is a flush that may have been an `unban --all`; it is not known yet. Hooks.mu guards its fields.
type flush struct {
	called  time.Time // when fail2ban called
	before  time.Time // it concerns bans that started before then
	next    time.Time // when to ask
	emptied bool      // the last answer was an empty list
}

// noteFlush begins the wait anew if one is under way.
func (h *Hooks) noteFlush(jail string, at time.Time) {
	h.mu.Lock()
	h.flushed[jail] = &flush{called: at, before: at, next: time.Now().Add(flushFirst)}
	h.mu.Unlock()
	h.wake()
}

// noteBan considers a ban that comes after a flush. A repeated ban shows that the jail was restarted. A new one may have
// started before the flush, with a log line that was read after it, and is then not concerned.
func (h *Hooks) noteBan(c Call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.flushed[c.Jail]
	switch {
	case f == nil || c.Event != EventBan:
	case c.Restored:
		delete(h.flushed, c.Jail)
	case c.Start.Before(f.before):
		f.before = c.Start
	}
}

func (h *Hooks) forgetFlush(jail string) {
	h.mu.Lock()
	delete(h.flushed, jail)
	h.mu.Unlock()
}

// wake has the loop look at its times anew. It never blocks.
func (h *Hooks) wake() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// Run resolves flushes until ctx ends. A flush that cannot be resolved within a quarter of an hour, or that the agent's end
// interrupts, lifts nothing: the bans run out by themselves.
func (h *Hooks) Run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		jail, f, wait := h.nextFlush()
		if f != nil && wait <= 0 {
			h.checkFlush(ctx, jail, f)
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-h.changed:
		case <-timer.C:
		}
	}
}

// nextFlush returns the flushed jail to ask about first, and when to do so; nil if there is none.
func (h *Hooks) nextFlush() (jail string, f *flush, wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	wait = time.Hour
	for name, candidate := range h.flushed {
		if until := time.Until(candidate.next); until < wait {
			jail, f, wait = name, candidate, until
		}
	}
	return jail, f, wait
}

// checkFlush finds out what became of a flushed jail.
func (h *Hooks) checkFlush(ctx context.Context, jail string, f *flush) {
	held, err := h.client.Banned(ctx, jail)

	h.mu.Lock()
	if h.flushed[jail] != f {
		h.mu.Unlock()
		return // stopped, started or flushed again meanwhile
	}
	before := f.before
	emptied := err == nil && allSince(held, before)
	// Twice in a row, flushConfirm apart: a stop's hook may still be on its way.
	lift := emptied && f.emptied
	switch {
	case errors.Is(err, ErrNoJail), h.now().Sub(f.called) > flushPatience:
		delete(h.flushed, jail)
		h.log.Info("flush of a jail lifts nothing", "jail", jail, "error", err, "still_banned", len(held))
		lift = false
	case emptied:
		f.next = time.Now().Add(flushConfirm)
	default:
		f.next = time.Now().Add(flushRetry)
	}
	f.emptied = emptied
	h.mu.Unlock()
	if !lift {
		return
	}

	lifted, err := h.liftAll(ctx, jail, before)
	if err != nil {
		h.log.Warn("lift what fail2ban unbanned", "jail", jail, "error", err)
		return // the flush stays noted, and the next answer tries again
	}
	h.log.Info("fail2ban unbanned all of a jail", "jail", jail, "lifted", lifted)
	h.mu.Lock()
	if h.flushed[jail] == f {
		delete(h.flushed, jail)
	}
	h.mu.Unlock()
}

// liftAll lifts what an `unban --all` of a jail concerns, and returns how many bans it lifted.
func (h *Hooks) liftAll(ctx context.Context, jail string, before time.Time) (int, error) {
	if h.isMeshJail(jail) {
		return 0, h.meshJail.Emptied(ctx, before)
	}
	lifted, err := h.set.Lift(ctx, store.LiftRequest{
		All:           true,
		Jail:          jail,
		Mine:          true,
		StartedBefore: store.At(before),
		FromFail2ban:  true,
	})
	return len(lifted), err
}

// allSince reports whether no ban of the list is older than t: a jail under attack fills again at once after an `unban --all`.
func allSince(held []Banned, t time.Time) bool {
	t = t.Truncate(time.Second) // like the list's times
	for _, b := range held {
		if b.Start.Before(t) {
			return false
		}
	}
	return true
}
