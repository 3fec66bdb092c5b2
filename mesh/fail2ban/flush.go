package fail2ban

import (
	"context"
	"errors"
	"time"

	"banmesh/store"
)

// fail2ban calls flush when a jail stops and when everything is unbanned by
// hand, and says nothing of which it is. Both empty the jail's list at once; but
// after the one it answers for the jail again, still running, and after the
// other the stop's hook has come, or fail2ban does not answer.

// flush is a flush of which it is not known yet whether it was an `unban --all`.
// Hooks.mu guards its fields.
type flush struct {
	called  time.Time // when fail2ban called
	before  time.Time // bans that started before are meant
	next    time.Time // when to ask
	emptied bool      // the last answer was an empty list
}

func (h *Hooks) noteFlush(jail string, at time.Time) {
	h.mu.Lock()
	h.flushed[jail] = &flush{called: at, before: at, next: h.now().Add(flushFirst)}
	h.mu.Unlock()
	h.wake()
}

// noteBan takes a ban that comes after a flush into account: a repeated one shows
// that the jail was restarted; a new one may have started before the flush, with
// a log line that was read after it, and is not meant.
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

func (h *Hooks) wake() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// Run looks after flushes until ctx ends. A flush that cannot be cleared up
// within a quarter of an hour, or that the agent's end interrupts, lifts
// nothing: the bans end by their time.
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

// nextFlush returns the flushed jail that is to be asked for first, and in which
// time; nil where there is none.
func (h *Hooks) nextFlush() (jail string, f *flush, wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	wait = time.Hour
	for name, candidate := range h.flushed {
		if until := candidate.next.Sub(now); until < wait {
			jail, f, wait = name, candidate, until
		}
	}
	return jail, f, wait
}

// checkFlush asks what became of a flushed jail.
func (h *Hooks) checkFlush(ctx context.Context, jail string, f *flush) {
	held, err := h.client.Banned(ctx, jail)

	h.mu.Lock()
	if h.flushed[jail] != f {
		h.mu.Unlock()
		return // stopped, started or flushed again meanwhile
	}
	now, before := h.now(), f.before
	emptied := err == nil && allSince(held, before)
	lift := emptied && f.emptied
	switch {
	case errors.Is(err, ErrNoJail), now.Sub(f.called) > flushPatience:
		delete(h.flushed, jail)
		h.log.Info("flush of a jail lifts nothing", "jail", jail, "error", err, "still_banned", len(held))
		lift = false
	case emptied:
		f.next = now.Add(flushConfirm)
	default:
		f.next = now.Add(flushRetry)
	}
	f.emptied = emptied
	h.mu.Unlock()
	if !lift {
		return
	}

	lifted, err := h.liftAll(ctx, jail, before)
	if err != nil {
		h.log.Warn("lift what fail2ban unbanned", "jail", jail, "error", err)
		return // tried again with the next answer
	}
	h.log.Info("fail2ban unbanned all of a jail", "jail", jail, "lifted", lifted)
	h.mu.Lock()
	if h.flushed[jail] == f {
		delete(h.flushed, jail)
	}
	h.mu.Unlock()
}

// liftAll does what an `unban --all` of a jail means, and returns how many bans
// it lifted.
func (h *Hooks) liftAll(ctx context.Context, jail string, before time.Time) (int, error) {
	if h.feeds(jail) {
		return 0, h.feed.Emptied(ctx, before)
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

// allSince reports whether no ban of the list is older than t: a jail under
// attack fills again at once after an `unban --all`.
func allSince(held []Banned, t time.Time) bool {
	t = t.Truncate(time.Second) // as the list's times are
	for _, b := range held {
		if b.Start.Before(t) {
			return false
		}
	}
	return true
}
