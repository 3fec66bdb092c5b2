package restclient

import (
	"context"
	"fmt"
	"net/http"

	"banmesh/netconfclient/prefixset"
)

// leftover is what an Edit left in a candidate because it could not take it back.
type leftover struct {
	change tenantChange
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
		case !refreshed && behind(v, ab):
			refreshed = true
			e.log.Info("refreshing the user's own candidate, which is behind running and holds no edits")
			if err := e.refresh(ctx); err != nil {
				return v, err
			}
		case !undone && (v.foreign == "" || ab.style == styleUser) && e.own(v, p):
			undone = true
			e.log.Warn("undoing our own leftovers in the candidate", "added", len(v.change.added), "removed", len(v.change.removed))
			if err := e.n.undo(ctx, e.c.key, v.candidate, v.running, v.change); err != nil {
				return v, fmt.Errorf("undo own leftovers: %w", err)
			}
			if ab, err = e.n.look(ctx); err != nil {
				return v, err
			}
		default:
			return v, &BusyError{Dirty: true, Detail: v.detail()}
		}
	}
}

// own tells whether what differs in our tenant was left by us: this process remembers it, or the caller knows it.
func (e *Edit) own(v verdict, p Permit) bool {
	if v.change.empty() {
		return false
	}
	// Nodes that share one candidate show each other's leftovers.
	for _, n := range e.c.nodes {
		if n.known().leftover.explains(v.change) {
			return true
		}
	}
	return v.change.foreign == "" && p.Ours != nil && p.Ours(v.change.added, v.change.removed)
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
