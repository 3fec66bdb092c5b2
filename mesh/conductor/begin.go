package conductor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/internal/mark"
	"banmesh/mesh/conductor/prefixset"
)

const (
	killWait  = 5 * time.Second       // how long to wait for the lock of a killed session
	killRetry = 50 * time.Millisecond // between attempts to take it
)

// begin brings the server to the point where an edit is safe, and reads what is there.
func (e *edit) begin(ctx context.Context, p Permit) error {
	if err := e.takeLock(ctx, p); err != nil {
		return err
	}
	var running *Tenant
	defer func() {
		if e.again != nil {
			e.now = e.again
		}
	}()
	if e.s.Candidate() != NoCandidate {
		// Compare even under the lock. A server must refuse to lock a dirty candidate (RFC 6241 §7.5), but not every server
		// does, and committing somebody's half-finished work cannot be undone.
		d, err := e.cleanCandidate(ctx, p, true)
		if err != nil {
			return err
		}
		running = d.Running
	}
	if running == nil {
		var err error
		if running, err = e.s.Read(ctx, RunningStore); err != nil {
			return err
		}
	}
	e.base, e.now = running, running
	return refuseWideOpen("running", running.Addresses)
}

// takeLock locks the datastore to edit, unless the server has no lock.
func (e *edit) takeLock(ctx context.Context, p Permit) error {
	var killed bool // and the time until its lock has to be free
	var deadline time.Time
	undone := false
	for !e.locked && !e.c.lacks(e.n, AbilityLock) {
		err := e.s.Lock(ctx)
		var denied *LockedError
		switch {
		case err == nil:
			e.locked = true
		case errors.Is(err, errors.ErrUnsupported):
			e.learn(AbilityLock, err)
		case !errors.As(err, &denied):
			return err
		case denied.Holder != 0 && slices.Contains(p.Kill, SessionAt{e.n.name, denied.Holder}) && !killed:
			e.log.Warn("killing the session of a former leader, which holds the lock", "holder", denied.Holder)
			// The session may have ended by itself, which is just as good: the next attempt to lock shows it.
			if err := e.s.Kill(ctx, denied.Holder); errors.Is(err, ErrRejected) {
				e.log.Warn("kill-session refused", "holder", denied.Holder, "err", err)
			} else if err != nil {
				return err
			}
			killed, deadline = true, time.Now().Add(killWait)
		case killed && denied.Holder != 0 && slices.Contains(p.Kill, SessionAt{e.n.name, denied.Holder}) && time.Now().Before(deadline):
			if err := wait(ctx, killRetry); err != nil {
				return err
			}
		case (denied.Uncommitted || denied.Unclear) && !undone && e.s.Candidate() != NoCandidate:
			undone = true
			if err := e.clearMark(ctx, p, denied); err != nil {
				return err
			}
		default:
			return &BusyError{Holder: denied.Holder, Detail: denied.Err.Error(), Err: denied}
		}
	}
	return nil
}

// clearMark makes the candidate clean when its lock was refused because of uncommitted edits. If the candidate equals
// running, only the server's "changed" mark stands in the way, and clearing it loses nothing. The candidate is left alone if
// the refusal did not name that mark and we have changed nothing.
func (e *edit) clearMark(ctx context.Context, p Permit, why *LockedError) error {
	if _, err := e.cleanCandidate(ctx, p, false); err != nil {
		return withDetail(err, why)
	}
	if !e.undid && !why.Uncommitted || e.c.lacks(e.n, AbilityDiscard) {
		return nil
	}
	switch err := e.s.Discard(ctx); {
	case errors.Is(err, errors.ErrUnsupported):
		e.learn(AbilityDiscard, err)
		return nil
	case err != nil:
		return err
	}
	err := e.s.Lock(ctx)
	if err == nil {
		e.locked = true
		return nil
	}
	if denied := (*LockedError)(nil); !errors.As(err, &denied) || !denied.Uncommitted {
		return nil // refused for another reason, which the next attempt shows
	}
	// One server keeps its mark until the next commit, even after a discard. Committing a candidate that equals running
	// changes nothing. Compare right before the commit, as always without a lock.
	if _, err := e.cleanCandidate(ctx, p, false); err != nil {
		return withDetail(err, why)
	}
	e.log.Info("committing a candidate equal to running, to clear the server's mark of changes")
	return e.s.Commit(ctx)
}

// withDetail adds the server's own words to a BusyError that has none.
func withDetail(err error, why *LockedError) error {
	var b *BusyError
	if errors.As(err, &b) {
		return &BusyError{Holder: why.Holder, Dirty: b.Dirty, Detail: b.Detail + "; " + why.Error(), Err: why}
	}
	return err
}

// cleanCandidate makes sure that the candidate holds no uncommitted edits. It undoes our own leftovers where it knows them
// and waits for those of others. last says that the edit begins next: then an acknowledged change that running does not show
// yet may stay.
func (e *edit) cleanCandidate(ctx context.Context, p Permit, last bool) (*Difference, error) {
	undid, reverted := false, false
	private := e.s.Candidate() == PrivateCandidate
	var failed error
	for {
		d, err := e.compare(ctx)
		switch {
		case err != nil:
			return nil, err
		case d.Clean():
			e.forget(d)
			e.n.clean = d.Text
			return d, nil
		case !reverted && e.mayRevert(d):
			reverted = true
			e.log.Warn("reverting the account's own candidate to running", "where", d.Detail())
			if failed = e.s.Discard(ctx); failed != nil {
				e.log.Warn("the candidate cannot be reverted", "err", failed)
			}
		case e.acknowledged(d, true):
			return nil, &BusyError{Detail: "the commit acknowledged at " + e.leftover().acked.Format(time.TimeOnly) + " is not visible since"}
		case last && (e.acknowledged(d, false) || e.unanswered(d)):
			// Running may be an old reading, so undo nothing and build the change on the candidate.
			e.log.Warn("what was committed is not visible: it is committed once more",
				"acknowledged", e.leftover() != nil, "added", len(d.change.added), "removed", len(d.change.removed))
			e.again, e.ours, e.dirty = d.Candidate, d.change, true
			return d, nil
		case !undid && (d.Foreign == "" && e.own(d, p) || private && !d.change.empty() && d.change.foreign == ""):
			undid = true
			if err := e.undoLeftovers(ctx, d); err != nil {
				return nil, err
			}
		case private && reverted:
			detail := "the candidate of this account is not equal to running (" + d.Detail() + "), and reverting it did not help: revert it by hand (POST /config/revertToRunning)"
			return nil, &BusyError{Detail: detail, Err: failed}
		case private && !reverted && e.forsaken(d):
			reverted = true
			e.log.Warn("reverting edits that nobody has touched for long in the candidate of the agents' own account", "where", d.Detail(), "for", standing)
			if failed = e.s.Discard(ctx); failed != nil {
				e.log.Warn("the candidate cannot be reverted", "err", failed)
			}
		default:
			return nil, e.editedBy(d)
		}
	}
}

// standing is how long a candidate of the agents' own account must stay as it is before it counts as nobody's work.
const standing = 30 * time.Minute

// unseen is how long nobody may have looked at it meanwhile: the same edits could have been dropped and made again.
const unseen = 10 * time.Minute

// forsaken reports whether the candidate of an account that is the agents' alone has stood unchanged for so long that nobody is
// at work in it. An agent killed in an edit leaves one that also lacks what others have committed since, and no later process
// can tell that from a person's edits.
func (e *edit) forsaken(d *Difference) bool {
	if d.Text == 0 || !e.c.cfg.OwnAccount || e.c.lacks(e.n, AbilityDiscard) {
		return false
	}
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	n, now := e.n, time.Now()
	if n.stands != d.Text || now.Sub(n.seen) > unseen {
		n.stands, n.since = d.Text, now
	}
	n.seen = now
	return now.Sub(n.since) >= standing
}

// mayRevert reports whether the candidate may be reset to running without its lock. That takes a private candidate that
// nobody else edits with our account. The conductor does the reset itself, so it does not depend on what we have read. A
// difference in our tenant alone is ours. If others have committed since the candidate was begun, it differs elsewhere too;
// then either the conductor says that it is only behind, or it is still what it was when it was last clean.
func (e *edit) mayRevert(d *Difference) bool {
	return e.s.Candidate() == PrivateCandidate && !e.c.lacks(e.n, AbilityDiscard) &&
		(d.Foreign == "" || d.Behind || d.Text != 0 && d.Text == e.n.clean)
}

// editedBy returns the error that says whose edits are in the way.
func (e *edit) editedBy(d *Difference) error {
	detail := d.Detail()
	if bans := len(prefixset.Minus(d.change.removed, e.ours.removed)); bans > 0 && e.s.Candidate() != PrivateCandidate { // which holds only its own edits at commit
		detail += "; committing that candidate lifts " + excerpt.Count(bans, "ban", "bans")
	}
	if e.s.Candidate() == PrivateCandidate {
		detail += ": somebody works with the agents' own account, whose edits are theirs to commit or to revert (POST /config/revertToRunning); " +
			"give the agents an account of their own"
		if at := e.until(); !at.IsZero() {
			detail += "; if it stays as it is, it counts as left by an agent that was killed, and is reverted at " + at.Format(time.TimeOnly)
		}
	}
	return &BusyError{Dirty: true, Detail: detail}
}

// until returns when the candidate will count as forsaken, or zero if it never does.
func (e *edit) until() time.Time {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	if e.n.stands == 0 {
		return time.Time{}
	}
	return e.n.since.Add(standing)
}

// forget drops the record of our leftover, because the candidate is clean.
func (e *edit) forget(d *Difference) {
	e.found(d)
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	for _, n := range e.c.nodes {
		if n == e.n || e.s.Candidate() == SharedCandidate {
			n.leftover, n.looked, n.untidy, n.stands = nil, true, "", 0
		}
	}
}

// found drops the record of our leftover: the candidate is clean, so the leftover has come into force after all.
func (e *edit) found(d *Difference) {
	e.c.mu.Lock()
	l := e.n.leftover
	e.c.mu.Unlock()
	if l != nil && d.Running != nil && l.made.inForce(d.Running) {
		e.c.moved(e.n, l.made)
	}
}

// compare compares the whole candidate with the whole of running.
func (e *edit) compare(ctx context.Context) (*Difference, error) {
	d, err := e.s.Compare(ctx)
	if err != nil {
		return nil, err
	}
	e.doubtAssigned(d.Candidate)
	d.Explain(e.c.cfg.Description)
	return d, nil
}

// steady waits a moment and fails if the difference has changed meanwhile. A difference that looks like a leftover may be a
// commit that another process has just made and that running shows late.
func (e *edit) steady(ctx context.Context, d *Difference) error {
	if err := wait(ctx, e.c.settle); err != nil {
		return err
	}
	now, err := e.compare(ctx)
	if err != nil {
		return err
	}
	if now.Foreign != d.Foreign || !now.change.equal(d.change) {
		return &BusyError{Detail: "the configuration is changing"}
	}
	*d = *now
	return nil
}

// undoLeftovers undoes exactly our difference, once it has stayed the same for a moment.
func (e *edit) undoLeftovers(ctx context.Context, d *Difference) error {
	if err := e.steady(ctx, d); err != nil {
		return err
	}
	e.log.Warn("undoing our own leftovers in the candidate", "added", len(d.change.added), "removed", len(d.change.removed))
	if err := e.undo(ctx, d.Candidate, d.Running, d.change); err != nil {
		return fmt.Errorf("undo own leftovers: %w", err)
	}
	e.undid = true
	mark.Reached("conductor: own leftovers were undone")
	return nil
}

// leftover returns what a commit left in the candidate that was answered with success but did not show, or nil. Nodes that
// share one candidate see each other's leftovers.
func (e *edit) leftover() *leftover {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	for _, n := range e.c.nodes {
		if (n == e.n || e.s.Candidate() == SharedCandidate) && n.leftover != nil && !n.leftover.acked.IsZero() {
			return n.leftover
		}
	}
	return nil
}

// acknowledged reports whether the difference is a commit of ours that was answered with success. recently limits that to a
// commit so recent that the reading of running may be older.
func (e *edit) acknowledged(d *Difference, recently bool) bool {
	l := e.leftover()
	return l != nil && (!recently || time.Since(l.acked) < e.c.cfg.Timeout) && d.Foreign == "" && d.change.foreign == "" && l.explains(d.change, time.Now())
}

// unanswered reports whether the difference is a commit of ours that nobody answered, so recent that running may show it late.
// Under the lock nobody else can commit between undoing it and making it again.
func (e *edit) unanswered(d *Difference) bool {
	if e.locked || d.Foreign != "" || d.change.foreign != "" {
		return false
	}
	now := time.Now()
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	return slices.ContainsFunc(e.c.nodes, func(n *node) bool {
		return (n == e.n || e.s.Candidate() == SharedCandidate) && n.leftover.late(now, e.c.cfg.Timeout) && n.leftover.explains(d.change, now)
	})
}

// own reports whether we left the difference in our tenant: this process remembers it, nobody else could have made it, or the
// caller recognises it. Only the caller can claim an acknowledged change: it is in force unless the conductor has lost it.
func (e *edit) own(d *Difference, p Permit) bool {
	c := d.change
	if c.empty() {
		return false
	}
	if e.remembered(d) {
		return true
	}
	gone := c.created.remade && !d.Candidate.Member && len(c.added) == 0 // interrupted while the member was being replaced
	switch {
	case c.foreign != "":
		return false
	case len(c.added)+len(c.removed) > 0 && !gone:
		return p.Ours != nil && p.Ours(c.added, c.removed)
	}
	// No address differs, or the member is being replaced. Only our own description distinguishes that from another
	// administrator's edit.
	return c.created.remade || c.created.description || c.created.tenant && e.c.cfg.Description == "" && !c.created.member
}

// remembered reports whether this process made the change recently. Only nodes that share one candidate see each other's
// leftovers; on a node with a candidate of its own, the same change was made by somebody else. Such a node can be unreachable
// for long, so there a leftover that still stands as it was left is ours whatever its age. The same goes for an acknowledged
// change once the conductor has lost it.
func (e *edit) remembered(d *Difference) bool {
	c := d.change
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	now := time.Now()
	if l := e.n.leftover; e.s.Candidate() == NodeCandidate && l.remains(d) && (l.acked.IsZero() || now.Sub(l.at) >= remembered) {
		return true
	}
	return slices.ContainsFunc(e.c.nodes, func(n *node) bool {
		return (n == e.n || e.s.Candidate() == SharedCandidate) &&
			(n.leftover.explains(c, now) && n.leftover.acked.IsZero() || n.undone.explains(c, now))
	})
}

// undo reverts a change in the candidate, whose content is now, and remembers that it did.
func (e *edit) undo(ctx context.Context, now, base *Tenant, c change) error {
	u := undo(now, base, c)
	if u.Empty() {
		return nil
	}
	got, err := e.s.Write(ctx, now, u)
	if err != nil {
		return err
	}
	e.c.mu.Lock()
	e.n.undone = undone{c, time.Now()}
	e.c.mu.Unlock()
	if u.DropTenant || u.DropMember {
		return nil
	}
	return mismatch(CandidateStore, prefixset.Minus(prefixset.Plus(now.Addresses, u.Add), u.Remove), got.Addresses)
}
