package conductor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"banmesh/mesh/conductor/prefixset"
)

// Edit is one exclusive change of the tenant, from Begin to Close. It is not safe for concurrent use.
type Edit interface {
	// Running returns the tenant as it was when the change began.
	Running() Running
	// Session returns the NETCONF session-id, or 0 without one.
	Session() uint64

	// Apply writes only the difference, reads the candidate back and compares it as a set. It does not add what is already
	// there, nor remove what is not. It creates the tenant, member and description if they are absent. Errors: ErrWideOpen,
	// ErrMismatch, *RejectedError, *BusyError, ErrUnreachable. After any of them our edits are reverted as far as the
	// conductor answers, and the Edit can only be closed.
	Apply(ctx context.Context, add, remove []netip.Prefix) error

	// Commit validates as configured, commits, reads running back and compares it as a set. If the commit was answered with
	// success but does not show at once, Commit waits for it. Errors: those of Apply (nothing was committed), and ErrUnknown
	// if no answer tells whether the commit took effect. The Edit can only be closed afterwards.
	Commit(ctx context.Context) error

	// Close reverts uncommitted edits, unlocks and ends the session, for a few seconds even after the context has ended. What
	// it cannot revert is remembered for the next Begin. A second Close does nothing.
	Close(ctx context.Context) error
}

// edit is one change of the tenant, from the lock to the commit or its reverse. It belongs to one goroutine.
// Three tenants matter: base, what running held at the start; now, what the candidate holds; and ours, what
// of the difference is this edit's own and may be undone by it.
type edit struct {
	c   *Conductor
	s   Session
	n   *node
	log *slog.Logger

	locked bool
	undid  bool // leftovers were undone before the lock
	closed bool
	over   error // why the edit can only be closed now; ErrClosed after a commit

	again *Tenant // the candidate at the start, if it held a commit of ours that running did not show

	base *Tenant // running at the start
	now  *Tenant // what is being edited, with our edits

	// Our edits that are not in force yet, relative to base.
	dirty   bool
	ours    change
	pending []Change // without a candidate: written by Commit
}

func (e *edit) Running() Running { return e.base.public(e.n.name) }
func (e *edit) Session() uint64  { return e.s.At().ID }

// Apply writes only what is missing or too much, so that an edit repeated after an error changes nothing
// twice. A reading back that differs, or a prefix that would block everything, ends the edit.
func (e *edit) Apply(ctx context.Context, add, remove []netip.Prefix) error {
	if err := e.usable(); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	ctx, done, err := e.c.enter(ctx)
	if err != nil {
		return err
	}
	defer done()
	add, err = prefixset.Canonical(add)
	if err != nil {
		return fmt.Errorf("apply: add: %w", err)
	}
	remove, err = prefixset.Canonical(remove)
	if err != nil {
		return fmt.Errorf("apply: remove: %w", err)
	}
	if twice := prefixset.Both(add, remove); len(twice) > 0 {
		return fmt.Errorf("apply: %v is to be added and to be removed", twice[0])
	}
	if err := refuseWideOpen("what is to be added", add); err != nil {
		return e.fail(ctx, fmt.Errorf("apply: %w", err))
	}
	e.again = nil // keep the leftover unless this change contradicts it: running may be an old reading
	add, remove = prefixset.Minus(add, e.now.Addresses), prefixset.Both(remove, e.now.Addresses)
	if len(add)+len(remove) == 0 {
		return nil
	}
	if err := e.apply(ctx, add, remove); err != nil {
		return e.fail(ctx, fmt.Errorf("apply at %s: %w", e.n.name, err))
	}
	return nil
}

// usable is asked first by every method but Close, which may always be called.
func (e *edit) usable() error {
	switch {
	case e.closed:
		return ErrClosed
	case e.over != nil:
		return fmt.Errorf("the change has ended: %w", e.over)
	}
	return nil
}

// learn remembers that the server lacks an ability.
func (e *edit) learn(a ability, why error) {
	e.log.Info("conductor lacks an operation", "operation", a, "reason", why.Error())
	e.c.learn(e.s, e.n, a)
}

// apply notes what it is about to write before it writes it (remember): if the session breaks meanwhile, the
// next edit recognises the leftovers as ours.
func (e *edit) apply(ctx context.Context, add, remove []netip.Prefix) error {
	c := Change{Add: add, Remove: remove}
	if len(add) > 0 && !e.now.Described {
		c.Describe = e.c.cfg.Description
	}
	want := prefixset.Minus(prefixset.Plus(e.now.Addresses, add), remove)
	e.ours.added, e.ours.removed = prefixset.Minus(want, e.base.Addresses), prefixset.Minus(e.base.Addresses, want)
	made := &e.ours.created
	made.tenant = made.tenant || !e.now.Exists
	made.member = made.member || !e.now.Member && len(add) > 0
	made.description = made.description || c.Describe != ""
	c.Deleting = func() {
		made.remade = true
		e.c.remember(e.n, e.left(time.Time{}))
	}

	e.dirty = true
	if e.s.Candidate() == NoCandidate {
		e.pending = append(e.pending, c)
		next := *e.now
		next.Addresses, next.Exists = want, true
		next.Member = next.Member || len(add) > 0
		next.Described = next.Described || c.Describe != ""
		e.now = &next
		return nil
	}
	e.c.remember(e.n, e.left(time.Time{}))
	got, err := e.s.Write(ctx, e.now, c)
	if err != nil {
		return err
	}
	e.now = got
	e.c.show(e.s, e.n)
	err = mismatch(CandidateStore, want, got.Addresses)
	var wrong *mismatchError
	if errors.As(err, &wrong) {
		// When the list is written whole, a lost address was lost by us, and an unexpected one replaced what we wrote. Both
		// are reverted with the rest.
		e.ours.removed = prefixset.Plus(e.ours.removed, prefixset.Both(e.base.Addresses, wrong.Missing))
		if instead := prefixset.Minus(wrong.Unexpected, e.base.Addresses); len(instead) <= len(wrong.Missing) {
			e.ours.added = prefixset.Plus(e.ours.added, instead)
		}
		e.c.remember(e.n, e.left(time.Time{}))
	}
	if wide := refuseWideOpen("the candidate", got.Addresses); wide != nil {
		return wide
	}
	return err
}

// fail reverts our edits, so that nothing of a failed change waits in the candidate for somebody's commit.
func (e *edit) fail(ctx context.Context, err error) error {
	if e.over == nil {
		e.over = err
	}
	e.c.avoid(e.n, err)
	if errors.Is(err, ErrUnknown) {
		// An answer to a read could come from before the commit takes effect, so do not ask.
		e.dirty = false
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_ = e.s.Close(ended)
	}
	if e.dirty && e.s.Alive() {
		ctx, cancel := Cleanup(ctx)
		defer cancel()
		if undoErr := e.revert(ctx); undoErr != nil {
			e.log.Error("own edits could not be taken back", "err", undoErr)
		}
	}
	return err
}

// revert reverts our edits of the candidate. It discards everything under our own lock or where nobody else edits the
// candidate, and otherwise reverts exactly our edits.
func (e *edit) revert(ctx context.Context) error {
	if e.s.Candidate() == NoCandidate {
		e.dirty = false // nothing was written
		return nil
	}
	whole := e.locked && !e.c.lacks(e.n, AbilityDiscard)
	if !e.locked && e.s.Candidate() == PrivateCandidate {
		d, err := e.compare(ctx)
		if err != nil {
			return fmt.Errorf("undo own edits: %w", err)
		}
		whole = e.mayRevert(d)
	}
	if whole {
		err := e.s.Discard(ctx)
		if err == nil {
			e.reverted()
			return nil
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		e.learn(AbilityDiscard, err)
	}
	base := e.base
	if !e.locked {
		// Running may have moved on, and what is in force by now is no longer an edit.
		var err error
		if base, err = e.s.Read(ctx, RunningStore); err != nil {
			return fmt.Errorf("undo own edits: %w", err)
		}
	}
	now, err := e.s.Read(ctx, CandidateStore)
	if err != nil {
		return fmt.Errorf("undo own edits: %w", err)
	}
	e.doubtAssigned(now)
	c := compareTenants(now, base, e.c.cfg.Description)
	if !e.locked {
		if !now.Exists || !e.ours.created.remade {
			c.foreign = "" // what somebody else has deleted stays deleted
		}
		// Keep what somebody else has edited meanwhile. Nobody can want a prefix that covers everything: the server made it
		// of ours, so it is reverted too.
		wide := slices.DeleteFunc(slices.Clone(c.added), func(p netip.Prefix) bool { return !prefixset.WideOpen(p) })
		c.added, c.removed = prefixset.Both(c.added, prefixset.Plus(e.ours.added, wide)), prefixset.Both(c.removed, e.ours.removed)
	}
	made := &c.created
	made.tenant = made.tenant && e.ours.created.tenant
	made.member = made.member && e.ours.created.member
	made.description = made.description && e.ours.created.description
	if err := e.undo(ctx, now, base, c); err != nil {
		return fmt.Errorf("undo own edits: %w", err)
	}
	e.reverted()
	if !e.locked && e.s.Candidate() == NodeCandidate {
		if err := e.catchUp(ctx); err != nil {
			e.log.Warn("the candidate is behind running and could not be brought up to date", "err", err)
		}
	}
	return nil
}

// catchUp resets a node's candidate that an edit of ours has kept from following a commit at another node: everybody would take
// it for an administrator's edit. Without our edit it must be exactly what it was when this edit found it clean, so that nobody
// loses anything.
func (e *edit) catchUp(ctx context.Context) error {
	d, err := e.compare(ctx)
	if err != nil || d.Clean() || d.Text == 0 || d.Text != e.n.clean || e.c.lacks(e.n, AbilityDiscard) {
		return err
	}
	err = e.s.Discard(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		e.learn(AbilityDiscard, err)
	}
	return err
}

// doubtAssigned notes that values which our edit did not read back from what it created are not the server's, but others' edits.
func (e *edit) doubtAssigned(candidate *Tenant) {
	if !e.dirty || candidate == nil {
		return
	}
	if e.now.Exists && !reflect.DeepEqual(candidate.Rest, e.now.Rest) {
		candidate.Assigned = false
	}
	if e.now.Member && !reflect.DeepEqual(candidate.MemberRest, e.now.MemberRest) {
		candidate.MemberAssigned = false
	}
}

// reverted notes that the candidate holds none of our edits any more.
func (e *edit) reverted() {
	e.dirty = false
	e.c.remember(e.n, nil)
}

// caughtUp drops the record of what was undone: running holds what the candidate held at the commit, and shows it.
func (e *edit) caughtUp() {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	for _, n := range e.c.nodes {
		if n == e.n || e.s.Candidate() == SharedCandidate {
			n.undone = undone{}
		}
	}
}

// Commit puts the edits in force. Nothing to commit is no error. After an error the edits are undone; after
// ErrUnknown the caller reads running to learn which it was.
func (e *edit) Commit(ctx context.Context) error {
	if err := e.usable(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	ctx, done, err := e.c.enter(ctx)
	if err != nil {
		return err
	}
	defer done()
	if e.dirty && e.again == nil {
		commit := e.commitCandidate
		if e.s.Candidate() == NoCandidate {
			commit = e.commitRunning
		}
		if err := commit(ctx); err != nil {
			return e.fail(ctx, fmt.Errorf("commit at %s: %w", e.n.name, err))
		}
		e.c.moved(e.n, e.ours)
		e.reverted()
		e.caughtUp()
	}
	e.over = ErrClosed
	return nil
}

// commitCandidate validates first if the server can: a commit that fails halfway is worse than one that is
// refused. Without a lock it also looks, as the last thing before the commit, whether somebody else has begun
// to edit.
func (e *edit) commitCandidate(ctx context.Context) error {
	if !e.c.lacks(e.n, AbilityValidate) {
		err := e.s.Validate(ctx)
		if errors.Is(err, errors.ErrUnsupported) && e.c.cfg.ValidateMode == ValidateAuto {
			e.learn(AbilityValidate, err)
		} else if err != nil {
			return err
		}
	}
	if !e.locked {
		if err := e.onlyOwnEdits(ctx); err != nil {
			return err
		}
	}
	return e.outcome(ctx, e.s.Commit(ctx))
}

// commitRunning commits on a server without candidate, where each write takes effect at once.
func (e *edit) commitRunning(ctx context.Context) error {
	now := e.base
	for _, c := range e.pending {
		got, err := e.s.Write(ctx, now, c)
		if err != nil {
			return e.outcome(ctx, err)
		}
		now = got
	}
	return e.outcome(ctx, nil)
}

// onlyOwnEdits compares once more before a commit without a lock: somebody may have started to edit since.
func (e *edit) onlyOwnEdits(ctx context.Context) error {
	d, err := e.compare(ctx)
	if err != nil {
		return err
	}
	c := d.change
	if !d.OnlyOurs() || len(prefixset.Minus(c.added, e.ours.added)) > 0 || len(prefixset.Minus(c.removed, e.ours.removed)) > 0 {
		if e.s.Candidate() == SharedCandidate {
			return e.editedBy(d)
		}
		// Reverting our edits shows whether somebody else edits here.
		if err := e.revert(ctx); err != nil {
			return err
		}
		left, err := e.compare(ctx)
		switch {
		case err != nil:
			return err
		case !left.Clean() && !e.mayRevert(left):
			return e.editedBy(left)
		}
		return &BusyError{Detail: "others have committed since this change began, which begins anew: " + d.Detail()}
	}
	if d.Candidate == nil {
		return mismatch(CandidateStore, e.want(), e.base.Addresses)
	}
	return mismatch(CandidateStore, e.want(), d.Candidate.Addresses)
}

// left describes what this edit leaves in the candidate unless it is reverted; acked is when its commit was acknowledged.
func (e *edit) left(acked time.Time) *leftover {
	return &leftover{made: e.ours, change: e.ours, holds: e.want(), acked: acked}
}

// want returns the addresses that running must hold.
func (e *edit) want() []netip.Prefix {
	return prefixset.Minus(prefixset.Plus(e.base.Addresses, e.ours.added), e.ours.removed)
}

// outcome trusts no answer to a commit, but reads running to see what became of it.
func (e *edit) outcome(ctx context.Context, answer error) error {
	if errors.Is(answer, ErrUnknown) && e.s.Candidate() != NoCandidate {
		l := e.left(time.Time{})
		l.sent = time.Now()
		e.c.remember(e.n, l)
	}
	switch {
	case answer == nil:
		return e.confirm(ctx)
	case errors.Is(answer, ErrUnreachable) && !errors.Is(answer, ErrUnknown):
		return answer // nothing was sent
	case !e.s.Alive():
		return answer
	}
	// Words that came with success may be a refusal or praise. Running decides, and may show the change late.
	var refused *RejectedError
	worded := errors.As(answer, &refused) && refused.Err == nil
	deadline := time.Now().Add(e.c.settle)
	for {
		got, err := e.s.Read(ctx, RunningStore)
		switch {
		case err == nil && mismatch(RunningStore, e.want(), got.Addresses) == nil:
			e.log.Warn("the commit was not answered with success, but running holds it", "answer", answer.Error())
			return nil
		case err != nil && !errors.Is(answer, ErrUnknown):
			// Do not wrap the causes: callers must see ErrUnknown and no other kind.
			return fmt.Errorf("%w: %v; then running could not be read: %v", ErrUnknown, answer, err)
		}
		if !worded || !time.Now().Before(deadline) || wait(ctx, max(e.c.settle/10, time.Millisecond)) != nil {
			return answer
		}
	}
}

// confirm reads running back after the commit was answered with success. From here on nothing is reverted: a change that
// running does not show yet may still come, and only the conductor knows.
func (e *edit) confirm(ctx context.Context) error {
	e.dirty = false
	acked := time.Now()
	e.c.remember(e.n, e.left(acked))
	defer e.c.show(e.s, e.n) // the commit may have added a warning
	within, cancel := context.WithTimeout(ctx, e.c.cfg.Timeout)
	defer cancel()
	var last error // other than that the time ended
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		got, err := e.s.Read(within, RunningStore)
		if within.Err() != nil && last != nil {
			err = last
		}
		if err == nil {
			if err := refuseWideOpen("running", got.Addresses); err != nil {
				return err
			}
			err = mismatch(RunningStore, e.want(), got.Addresses)
			if err == nil {
				return nil
			}
			if e.ours.inForce(got) {
				e.c.moved(e.n, e.ours)
				e.c.remember(e.n, nil)
				return err // our change came, and something else with it
			}
			if last == nil {
				e.log.Info("the commit was answered with success, and running does not show it yet", "err", err)
			}
		}
		again := errors.Is(err, ErrMismatch) || errors.Is(err, ErrUnreachable) || errors.Is(err, ErrBusy)
		last = err
		if !again || !e.s.Alive() || wait(within, pause) != nil {
			e.c.remember(e.n, e.left(acked)) // running was known to be late for that long
			return fmt.Errorf("%w: acknowledged at %s, not visible since: %v", ErrUnseen, acked.Format(time.TimeOnly), err)
		}
	}
}

// Close undoes what was not committed and gives back the lock, in that order: the other way round somebody
// else could commit our edits. It uses a context of its own, since it must also work when the caller's has
// ended.
func (e *edit) Close(ctx context.Context) error {
	if e.closed {
		return nil
	}
	e.closed = true
	ctx, cancel := Cleanup(ctx)
	defer cancel()
	var errs []error
	if e.again != nil {
		e.dirty = false // what was committed may be in force, so it stays and is remembered
	}
	if e.dirty && e.s.Alive() {
		errs = append(errs, e.revert(ctx))
	}
	if e.locked && e.s.Alive() {
		errs = append(errs, e.s.Unlock(ctx))
	}
	errs = append(errs, e.c.drop(ctx, e.s))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the change at %s: %w", e.n.name, err)
	}
	return nil
}
