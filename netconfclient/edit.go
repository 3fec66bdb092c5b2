package netconfclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"banmesh/netconfclient/prefixset"
)

// maxRounds bounds how often a removal is repeated for a server that holds the same address several times.
const maxRounds = 5

// Edit is one change of the tenant, from Begin to Close. It is not safe for concurrent use.
type Edit struct {
	c    *Conductor
	s    *Session
	path path
	log  *slog.Logger

	locked bool
	undid  bool // leftovers were undone before the lock
	closed bool
	over   error // why no more can be done; ErrClosed after a commit

	base *tenantState // running, as the change began
	now  *tenantState // what the target holds with our edits
	raw  []byte       // the candidate's tenant as it was read back

	// Our edits that are not in force: what they added to the base, removed from it and created in it.
	dirty          bool
	added, removed []netip.Prefix
	made           created
	pending        []tenantEdit // of a server without candidate: sent with Commit
}

// Running is the tenant as it was when the change began.
func (e *Edit) Running() Running { return e.base.public(e.s.addr) }

// Session is the NETCONF session-id.
func (e *Edit) Session() uint64 { return e.s.ID() }

// Apply edits only the difference, reads the candidate back and compares it as a set. What is there already is not
// added again, what is not there is not removed. Tenant, member and description are created where they are absent.
// Errors: ErrWideOpen, *MismatchError, *RejectedError, *BusyError, ErrUnreachable, ErrProtocol; after any of them our
// edits are taken back as far as the session still works, and the Edit can only be closed.
func (e *Edit) Apply(ctx context.Context, add, remove []netip.Prefix) error {
	if err := e.usable(); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	add, err := prefixset.Canonical(add)
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
	add, remove = prefixset.Minus(add, e.now.addresses), prefixset.Both(remove, e.now.addresses)
	if err := e.apply(ctx, add, remove); err != nil {
		return e.fail(ctx, fmt.Errorf("apply at %s: %w", e.s.addr, err))
	}
	return nil
}

func (e *Edit) usable() error {
	switch {
	case e.closed:
		return ErrClosed
	case e.over != nil:
		return fmt.Errorf("the change has ended: %w", e.over)
	}
	return nil
}

func (e *Edit) apply(ctx context.Context, add, remove []netip.Prefix) error {
	change := tenantEdit{key: e.c.key, removeOp: e.path.removeOp, add: texts(add)}
	for _, p := range remove {
		change.remove = append(change.remove, e.now.texts(p)...)
	}
	if len(add) > 0 {
		if !e.now.described {
			change.description = e.c.cfg.Description
		}
		e.made.tenant = e.made.tenant || !e.now.exists
		e.made.member = e.made.member || !e.now.member
		e.made.description = e.made.description || change.description != ""
	}
	if change.empty() {
		return nil
	}
	want := prefixset.Minus(prefixset.Plus(e.now.addresses, add), remove)
	e.added, e.removed = prefixset.Minus(want, e.base.addresses), prefixset.Minus(e.base.addresses, want)

	if e.path.target == RunningStore {
		e.pending = append(e.pending, change)
		next := *e.now
		next.addresses, next.exists = want, true
		next.member = next.member || len(add) > 0
		next.described = next.described || change.description != ""
		e.now = &next
		return nil
	}

	e.dirty = true
	for round := 1; ; round++ {
		if err := e.edit(ctx, change, e.path.editOptions()); err != nil {
			return err
		}
		got, reply, err := e.c.readTenant(ctx, e.s, CandidateStore)
		if err != nil {
			return err
		}
		e.now, e.raw = got, reply.Raw[reply.data:]
		if err := refuseWideOpen("the candidate", got.addresses); err != nil {
			return err
		}
		again := prefixset.Both(remove, got.addresses)
		if len(again) == 0 || round == maxRounds || len(prefixset.Minus(want, got.addresses)) > 0 {
			return mismatch(CandidateStore, want, got.addresses)
		}
		// One server keeps the same text twice, and removes one at a time.
		change = tenantEdit{key: e.c.key, removeOp: e.path.removeOp}
		for _, p := range again {
			change.remove = append(change.remove, got.texts(p)...)
		}
	}
}

// mismatch compares what is wanted with what was read.
func mismatch(store Datastore, want, got []netip.Prefix) error {
	missing, unexpected := prefixset.Minus(want, got), prefixset.Minus(got, want)
	if len(missing) == 0 && len(unexpected) == 0 {
		return nil
	}
	return &MismatchError{Datastore: store, Missing: missing, Unexpected: unexpected}
}

// edit sends a change to the target, and once more where the server refused how it was put rather than what it says.
func (e *Edit) edit(ctx context.Context, change tenantEdit, o EditOptions) error {
	for {
		err := e.editOnce(ctx, change, o)
		var errs RPCErrors
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &errs):
			return err
		case o.Test != "" && refusesTest(errs) && e.c.cfg.ValidateMode == ValidateAuto:
			e.log.Info("conductor has no test-then-set", "reason", errs.Error())
			e.c.learn(e.s, &e.path, func(l *learned) { l.noTestThenSet = true })
			o.Test = ""
		case errs.only("data-missing") && len(change.remove) > 0:
			// It was removed meanwhile, or the server takes remove for delete: ask for what is still there.
			now, _, readErr := e.c.readTenant(ctx, e.s, e.path.target)
			if readErr != nil {
				return readErr
			}
			left := stillThere(change.remove, now)
			if len(left) == len(change.remove) {
				return &RejectedError{Step: "edit-config", Errors: errs}
			}
			change.remove = left
			if change.empty() {
				return nil
			}
		default:
			return refused("edit-config", err)
		}
	}
}

func (e *Edit) editOnce(ctx context.Context, change tenantEdit, o EditOptions) error {
	ctx, cancel := e.c.bound(ctx)
	defer cancel()
	return e.s.EditConfig(ctx, e.path.target, o, change.config())
}

// refusesTest recognises that it is the test-option that the server does not want.
func refusesTest(errs RPCErrors) bool {
	for _, e := range errs {
		if e.Tag == "operation-not-supported" {
			return true
		}
		for _, i := range e.Info {
			if i == "bad-element=test-option" {
				return true
			}
		}
	}
	return false
}

func stillThere(remove []string, now *tenantState) []string {
	there := make(map[string]bool)
	for _, p := range now.addresses {
		for _, t := range now.texts(p) {
			there[t] = true
		}
	}
	var left []string
	for _, t := range remove {
		if there[t] {
			left = append(left, t)
		}
	}
	return left
}

// fail takes our edits back, so that nothing of a failed change waits in the candidate for somebody's commit.
func (e *Edit) fail(ctx context.Context, err error) error {
	if e.over == nil {
		e.over = err
	}
	if errors.Is(err, ErrUnknownOutcome) {
		// Whatever is asked now may be answered before the commit has its effect.
		e.s.Close()
	}
	if e.dirty && e.s.alive() {
		ctx, cancel := cleanup(ctx)
		defer cancel()
		if undoErr := e.revert(ctx); undoErr != nil {
			e.log.Error("own edits could not be taken back", "err", undoErr)
		}
	}
	return err
}

// revert takes back our edits of the candidate: all of it under our own lock, exactly ours without one.
func (e *Edit) revert(ctx context.Context) error {
	if e.locked && e.path.target == CandidateStore && !e.path.noDiscard {
		err := e.s.DiscardChanges(ctx)
		if err == nil {
			e.dirty = false
			return nil
		}
		if !unsupported(err) {
			return refused("discard-changes", err)
		}
		e.c.learn(e.s, &e.path, func(l *learned) { l.noDiscard = true })
	}
	now, _, err := e.c.readTenant(ctx, e.s, e.path.target)
	if err != nil {
		return err
	}
	// Under the lock all that differs is ours, also where the server made something else of it.
	added, removed := prefixset.Minus(now.addresses, e.base.addresses), prefixset.Minus(e.base.addresses, now.addresses)
	if !e.locked {
		// Without it only what we told the server, and what nobody can want: it made that of an address of ours.
		everything := slices.DeleteFunc(slices.Clone(added), func(p netip.Prefix) bool { return !prefixset.WideOpen(p) })
		added, removed = prefixset.Both(added, prefixset.Plus(e.added, everything)), prefixset.Both(removed, e.removed)
	}
	made := created{
		tenant:      e.made.tenant && !e.base.exists,
		member:      e.made.member && !e.base.member,
		description: e.made.description && !e.base.described,
	}
	u := undo(e.c.key, now, e.base, added, removed, made, e.path.removeOp)
	if u.empty() {
		e.dirty = false
		return nil
	}
	if err := e.edit(ctx, u, EditOptions{Default: "merge"}); err != nil {
		return fmt.Errorf("undo own edits: %w", err)
	}
	e.dirty = false
	return nil
}

// Commit validates as configured, commits, reads running back and compares it as a set. Errors: *BusyError,
// *RejectedError, *MismatchError, ErrWideOpen, ErrUnreachable (nothing was committed), and ErrUnknownOutcome: the
// connection broke after the commit was sent. The Edit can only be closed afterwards.
func (e *Edit) Commit(ctx context.Context) error {
	if err := e.usable(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if len(e.added) == 0 && len(e.removed) == 0 && !e.dirty && len(e.pending) == 0 {
		e.over = ErrClosed
		return nil
	}
	commit := e.commitCandidate
	if e.path.target == RunningStore {
		commit = e.commitRunning
	}
	if err := commit(ctx); err != nil {
		return e.fail(ctx, fmt.Errorf("commit at %s: %w", e.s.addr, err))
	}
	e.dirty = false
	e.over = ErrClosed
	return nil
}

func (e *Edit) commitCandidate(ctx context.Context) error {
	if e.path.validate == ValidateExplicit {
		if err := e.validate(ctx); err != nil {
			return err
		}
	}
	if !e.locked {
		if err := e.onlyOwnEdits(ctx); err != nil {
			return err
		}
	}
	bctx, cancel := e.c.bound(ctx)
	err := e.s.Commit(bctx, e.path.leaf)
	cancel()
	var errs RPCErrors
	if errors.As(err, &errs) {
		return e.afterRefusal(ctx, "commit", errs)
	}
	if err != nil {
		return err
	}
	return e.confirm(ctx)
}

func (e *Edit) validate(ctx context.Context) error {
	ctx, cancel := e.c.bound(ctx)
	defer cancel()
	return refused("validate", e.s.Validate(ctx, CandidateStore))
}

// onlyOwnEdits looks once more before a commit without a lock: somebody may have begun to edit since.
func (e *Edit) onlyOwnEdits(ctx context.Context) error {
	v, err := e.compare(ctx)
	if err != nil {
		return err
	}
	if !v.onlyOurs() || len(prefixset.Minus(v.change.added, e.added)) > 0 || len(prefixset.Minus(v.change.removed, e.removed)) > 0 {
		return &BusyError{Dirty: true, Detail: v.detail()}
	}
	return nil
}

// afterRefusal trusts a refusal no more than an ok: running tells what became of it.
func (e *Edit) afterRefusal(ctx context.Context, step string, errs RPCErrors) error {
	refusal := refused(step, errs)
	got, _, err := e.c.readTenant(ctx, e.s, RunningStore)
	if err != nil {
		return fmt.Errorf("%w: %w; then running could not be read: %w", ErrUnknownOutcome, refusal, err)
	}
	want := prefixset.Minus(prefixset.Plus(e.base.addresses, e.added), e.removed)
	if mismatch(RunningStore, want, got.addresses) == nil {
		e.log.Warn("conductor refused the commit, but running holds it", "refusal", refusal.Error())
		return nil
	}
	return refusal
}

// confirm reads running back, after the change was answered with success. From here on nothing is taken back: what running
// does not show yet may come, and only the server knows.
func (e *Edit) confirm(ctx context.Context) error {
	e.dirty = false
	want := prefixset.Minus(prefixset.Plus(e.base.addresses, e.added), e.removed)
	bctx, cancel := e.c.bound(ctx)
	defer cancel()
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		r, err := e.s.GetConfig(bctx, RunningStore, e.c.key.filter())
		if err != nil {
			return fmt.Errorf("%w: running could not be read back: %w", ErrUnknownOutcome, err)
		}
		if e.raw != nil && bytes.Equal(r.Raw[r.data:], e.raw) {
			return nil // the same text as the candidate's, which was compared
		}
		got, err := parseTenant(r, e.c.key)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnknownOutcome, e.s.breach(err))
		}
		if err := refuseWideOpen("running", got.addresses); err != nil {
			return err
		}
		err = mismatch(RunningStore, want, got.addresses)
		if err == nil || len(prefixset.Minus(e.added, got.addresses)) == 0 && len(prefixset.Both(e.removed, got.addresses)) == 0 {
			return err // it came, and perhaps something else with it
		}
		e.log.Info("the commit was answered with success, and running does not show it yet", "err", err)
		if wait(bctx, pause) != nil {
			return fmt.Errorf("%w: the commit was answered with success, and running did not show it in time: %w", ErrUnknownOutcome, err)
		}
	}
}

// commitRunning is for a server without candidate: the edit itself takes effect.
func (e *Edit) commitRunning(ctx context.Context) error {
	for _, change := range e.pending {
		e.dirty = true
		err := e.edit(ctx, change, e.path.editOptions())
		var rejected *RejectedError
		switch {
		case errors.As(err, &rejected):
			return e.afterRefusal(ctx, rejected.Step, rejected.Errors)
		case errors.Is(err, ErrBusy):
			return err
		case err != nil:
			return e.s.outcome(nil, err)
		}
	}
	return e.confirm(ctx)
}

// Close takes back what was not committed, unlocks and closes the session. It does so also after the context has
// ended, for a few seconds. A second Close does nothing.
func (e *Edit) Close(ctx context.Context) error {
	if e.closed {
		return nil
	}
	e.closed = true
	defer e.c.forget(e.s)
	if !e.s.alive() {
		return e.s.Close()
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	var errs []error
	if e.dirty {
		errs = append(errs, e.revert(ctx))
	}
	if e.locked && e.s.alive() {
		errs = append(errs, e.s.Unlock(ctx, e.path.target))
	}
	errs = append(errs, e.c.drop(ctx, e.s))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close session %d at %s: %w", e.s.ID(), e.s.addr, err)
	}
	return nil
}
