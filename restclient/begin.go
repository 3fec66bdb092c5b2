package restclient

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"banmesh/netconfclient/prefixset"
)

// leftover is what an Edit left in a candidate because it could not take it back, or because the outcome of its commit is
// not known.
type leftover struct {
	change tenantChange
	acked  time.Time // when its commit was answered with success, which running does not show; zero: it was not
}

// explains tells whether a change of the candidate is what was left there.
func (l *leftover) explains(c tenantChange) bool {
	switch {
	case l == nil:
		return false
	case c.foreign == memberGone && l.change.created.remade && len(c.added) == 0:
		return true // between DELETE and POST of the member
	case c.foreign != "":
		return false
	}
	made := c.created
	return len(prefixset.Minus(c.added, l.change.added)) == 0 && len(prefixset.Minus(c.removed, l.change.removed)) == 0 &&
		(!made.tenant || l.change.created.tenant) && (!made.member || l.change.created.member) &&
		(!made.description || l.change.created.description)
}

// undone is what was taken back in a candidate: should the reading that this was decided by have been an old one, the
// candidate now lacks what is in force, and it was us.
type undone struct {
	change tenantChange
	at     time.Time
}

func (u undone) explains(c tenantChange, now time.Time) bool {
	const remembered = 10 * time.Minute
	return c.foreign == "" && c.created == created{} && now.Sub(u.at) < remembered && len(c.added)+len(c.removed) > 0 &&
		len(prefixset.Minus(c.removed, u.change.added)) == 0 && len(prefixset.Minus(c.added, u.change.removed)) == 0
}

// begin brings the conductor to the point where an edit is safe, and reads what is there.
func (e *Edit) begin(ctx context.Context, p Permit, ab about) error {
	v, err := e.cleanCandidate(ctx, p, ab)
	if err != nil {
		return err
	}
	e.base, e.now = v.running, v.candidate
	return refuseWideOpen("running", e.base.addresses)
}

// cleanCandidate makes sure that the candidate holds no uncommitted edits: our own leftovers are undone where they are
// known, others are waited for.
func (e *Edit) cleanCandidate(ctx context.Context, p Permit, ab about) (verdict, error) {
	undone, refreshed := false, false
	for {
		v, err := e.n.compare(ctx, e.c.key, e.c.cfg.Description)
		switch {
		case err != nil:
			return v, err
		case v.clean():
			for _, n := range e.c.nodes {
				if n == e.n || ab.style == styleShared {
					n.setLeftover(nil)
				}
			}
			return v, nil
		case !refreshed && ab.style == styleUser && (v.foreign == "" || behind(v, ab)):
			// The conductor itself brings the account's own candidate to what is in force; it needs no reading of ours to
			// do so. Nobody but the agents has this account, so what differs in our tenant alone is theirs.
			refreshed = true
			e.log.Warn("reverting the account's own candidate to running", "where", v.detail())
			if err := e.refresh(ctx); err != nil {
				e.log.Warn("the candidate cannot be reverted", "err", err)
			}
		case e.acknowledged(v):
			return v, &BusyError{Detail: "the last commit was answered with success, and running does not show it yet"}
		case !undone && (v.foreign == "" || ab.style == styleUser) && e.own(v, p):
			undone = true
			if err := e.lasts(ctx, v); err != nil {
				return v, err
			}
			e.log.Warn("undoing our own leftovers in the candidate", "added", len(v.change.added), "removed", len(v.change.removed))
			if err := e.n.undo(ctx, e.c.key, v.candidate, v.running, v.change); err != nil {
				return v, fmt.Errorf("undo own leftovers: %w", err)
			}
			e.n.setUndone(v.change)
			if ab, err = e.n.look(ctx); err != nil {
				return v, err
			}
		default:
			return v, &BusyError{Dirty: true, Detail: v.detail()}
		}
	}
}

// acknowledged tells whether what differs is a commit of ours that was answered with success so short a time ago that the
// reading of running may be older than that.
func (e *Edit) acknowledged(v verdict) bool {
	l := e.n.known().leftover
	return l != nil && !l.acked.IsZero() && e.n.now().Sub(l.acked) < e.c.cfg.Timeout && v.foreign == "" && l.explains(v.change)
}

// lasts waits a moment and looks again. Another process may just have committed what looks like a leftover, and running
// may show that late.
func (e *Edit) lasts(ctx context.Context, was verdict) error {
	if err := pauseFor(ctx, e.c.cfg.settle); err != nil {
		return err
	}
	now, err := e.n.compare(ctx, e.c.key, e.c.cfg.Description)
	if err != nil {
		return err
	}
	if now.foreign != was.foreign || !now.change.equal(was.change) {
		return &BusyError{Detail: "the configuration is changing"}
	}
	return nil
}

// pauseFor waits, as long as the context lasts.
func pauseFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnreachable, context.Cause(ctx))
	case <-t.C:
		return nil
	}
}

// own tells whether what differs in our tenant was left by us: this process remembers it, nobody else could have made it,
// or the caller knows it.
func (e *Edit) own(v verdict, p Permit) bool {
	c := v.change
	if c.empty() {
		return false
	}
	// Nodes that share one candidate show each other's leftovers.
	for _, n := range e.c.nodes {
		if ab := n.known(); ab.leftover.explains(c) || ab.undone.explains(c, n.now()) {
			return true
		}
	}
	switch {
	case c.foreign != "":
		return false
	case len(c.added)+len(c.removed) > 0 && !(c.created.remade && !v.candidate.member && len(c.added) == 0):
		return p.Ours != nil && p.Ours(c.added, c.removed)
	}
	// No address differs, or the member is being made anew. Only our own description tells such a thing from another
	// administrator's.
	return c.created.remade || c.created.description || c.created.tenant && e.c.cfg.Description == "" && !c.created.member
}

// behind tells whether a user's own candidate holds no edits and still differs: others have committed since it was
// begun. Only the conductor can tell; it has been seen to call a clean candidate changed, not the other way round.
func behind(v verdict, ab about) bool {
	return ab.style == styleUser && !ab.noVersion && !ab.dirty && !v.clean()
}

// refresh brings a user's own candidate, which holds no edits, up to running. On a candidate that others share it must
// never be called: it would drop their edits.
func (e *Edit) refresh(ctx context.Context) error {
	_, err := e.n.call(ctx, http.MethodPost, "/config/revertToRunning", struct{}{})
	if err != nil {
		return refused("revert", err)
	}
	return nil
}
