package netconfclient

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	killWait  = 5 * time.Second       // for the lock of a killed session to come free
	killRetry = 50 * time.Millisecond // between attempts meanwhile
)

// begin brings the server to the point where an edit is safe, and reads what is there.
func (e *Edit) begin(ctx context.Context, p Permit) error {
	if err := e.takeLock(ctx, p); err != nil {
		return err
	}
	if e.path.target == CandidateStore {
		// Also under the lock: a server has to refuse the lock of a dirty candidate, but a commit of somebody's half
		// finished work cannot be taken back, so that is not left to trust.
		if err := e.cleanCandidate(ctx, p); err != nil {
			return err
		}
	}
	t, _, err := e.c.readTenant(ctx, e.s, RunningStore)
	if err != nil {
		return err
	}
	e.base, e.now = t, t
	return refuseWideOpen("running", t.addresses)
}

// takeLock takes the lock of the datastore that is edited, unless the server has none.
func (e *Edit) takeLock(ctx context.Context, p Permit) error {
	var killed bool // and the time until its lock has to be free
	var deadline time.Time
	undone := false
	for !e.path.noLock {
		errs, err := e.tryLock(ctx)
		if err != nil || errs == nil {
			return err
		}
		holder := errs.holder()
		mayKill := holder != 0 && slices.Contains(p.Kill, SessionAt{Node: e.s.addr, ID: holder})
		switch {
		case unsupported(errs):
			e.log.Info("conductor has no lock: the candidate is compared with running instead", "reason", errs.Error())
			e.c.learn(e.s, &e.path, func(l *learned) { l.noLock = true })
		case mayKill && !killed:
			e.log.Warn("killing the session of a former leader, which holds the lock", "holder", holder)
			if err := e.kill(ctx, holder); err != nil {
				return err
			}
			killed, deadline = true, time.Now().Add(killWait)
		case killed && mayKill && time.Now().Before(deadline):
			if err := wait(ctx, killRetry); err != nil {
				return err
			}
		case errs.has("lock-denied") || errs.has("in-use"):
			return &BusyError{Holder: holder, Detail: errs.Error()}
		case e.path.target == CandidateStore && !undone && (errs.has("resource-denied") || errs.has("operation-failed")):
			// Refused for uncommitted edits, or for a reason that is not given.
			if err := e.cleanCandidate(ctx, p); err != nil {
				return withDetail(err, errs)
			}
			if err := e.resetMark(ctx, p, errs); err != nil || e.locked {
				return err
			}
			undone = true
		case errs.has("resource-denied") || errs.has("operation-failed"):
			return &BusyError{Holder: holder, Detail: errs.Error()}
		default:
			return &RejectedError{Step: "lock", Errors: errs}
		}
	}
	return nil
}

// tryLock gives the server's refusal apart from a broken session.
func (e *Edit) tryLock(ctx context.Context) (RPCErrors, error) {
	ctx, cancel := e.c.bound(ctx)
	defer cancel()
	err := e.s.Lock(ctx, e.path.target)
	var errs RPCErrors
	switch {
	case err == nil:
		e.locked = true
		return nil, nil
	case errors.As(err, &errs):
		return errs, nil
	}
	return nil, err
}

func (e *Edit) kill(ctx context.Context, id uint64) error {
	ctx, cancel := e.c.bound(ctx)
	defer cancel()
	// It may be gone by now, which is as good; the lock tells.
	if err := e.s.KillSession(ctx, id); err != nil && !errors.As(err, new(RPCErrors)) {
		return err
	} else if err != nil {
		e.log.Warn("kill-session refused", "holder", id, "err", err)
	}
	return nil
}

// cleanCandidate makes sure that the candidate holds no uncommitted edits: our own leftovers are undone where the
// caller knows them, others are waited for.
func (e *Edit) cleanCandidate(ctx context.Context, p Permit) error {
	for attempt := 0; ; attempt++ {
		v, err := e.compare(ctx)
		if err != nil {
			return err
		}
		if v.clean() {
			return nil
		}
		if attempt > 0 || !v.onlyOurs() || !e.own(v, p) {
			return &BusyError{Dirty: true, Detail: v.detail()}
		}
		e.log.Warn("undoing our own leftovers in the candidate", "added", len(v.change.added), "removed", len(v.change.removed))
		u := undo(e.c.key, v.candidate, v.running, v.change.added, v.change.removed, v.change.created, e.path.removeOp)
		if err := e.edit(ctx, u, EditOptions{Default: "merge"}); err != nil {
			return fmt.Errorf("undo own leftovers: %w", err)
		}
		e.undid = true
	}
}

// own tells whether what differs in our tenant was left by us. Where no address differs, only our own description tells a
// tenant that was just created, or given it, from another administrator's.
func (e *Edit) own(v verdict, p Permit) bool {
	c := v.change
	if len(c.added)+len(c.removed) == 0 {
		return c.created.description || c.created.tenant && e.c.cfg.Description == "" && !c.created.member
	}
	return p.Ours != nil && p.Ours(c.added, c.removed)
}

// resetMark clears a server's mark of a changed candidate that is equal to running: there is nothing in it to lose.
// Where the refusal did not name that mark, and we have not changed anything, the candidate is left alone.
func (e *Edit) resetMark(ctx context.Context, p Permit, why RPCErrors) error {
	if !e.undid && !why.has("resource-denied") {
		return nil
	}
	bctx, cancel := e.c.bound(ctx)
	defer cancel()
	err := e.s.DiscardChanges(bctx)
	switch {
	case unsupported(err):
		e.c.learn(e.s, &e.path, func(l *learned) { l.noDiscard = true })
		return nil
	case err != nil:
		return refused("discard-changes", err)
	}
	if errs, err := e.tryLock(ctx); err != nil || !errs.has("resource-denied") {
		return err // locked, or refused for another reason, which the next attempt tells
	}
	// One server keeps its mark until the next commit, whatever is discarded. A commit of a candidate that is equal to
	// running changes nothing; that it still is equal is looked at right before, as always without a lock.
	if err := e.cleanCandidate(ctx, p); err != nil {
		return withDetail(err, why)
	}
	e.log.Info("committing a candidate equal to running, to clear the server's mark of changes")
	cctx, cancel := e.c.bound(ctx)
	defer cancel()
	if _, err := e.s.commit(cctx, e.path.leaf); err != nil {
		return refused("commit", err)
	}
	return nil
}

// compare compares candidate and running whole.
func (e *Edit) compare(ctx context.Context) (verdict, error) {
	ctx, cancel := e.c.bound(ctx)
	defer cancel()
	v, err := compareStores(ctx, e.s, e.c.key, e.c.cfg.Description)
	if err != nil {
		if errors.Is(err, ErrProtocol) {
			err = e.s.breach(err)
		}
		return v, refused("get-config", err)
	}
	return v, nil
}

// withDetail adds the server's own words to why we wait.
func withDetail(err error, errs RPCErrors) error {
	var b *BusyError
	if errors.As(err, &b) {
		return &BusyError{Holder: errs.holder(), Dirty: b.Dirty, Detail: b.Detail + "; the lock is refused: " + errs.Error()}
	}
	return err
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
