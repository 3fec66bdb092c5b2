package restclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"banmesh/netconfclient/prefixset"
)

// Edit is one change of the tenant, from Begin to Close. It is not safe for concurrent use.
type Edit struct {
	c   *Conductor
	n   *node
	log *slog.Logger

	closed bool
	over   error // why no more can be done; ErrClosed after a commit

	base *tenantState // running, as the change began
	now  *tenantState // what the candidate holds with our edits

	// Our edits that are not in force: what they changed of the base.
	dirty bool
	ours  tenantChange
}

// Running is the tenant as it was when the change began.
func (e *Edit) Running() Running { return e.base.public(e.n.url) }

// Apply edits only our tenant, reads the candidate back and compares it as a set. What is there already is not added
// again, what is not there is not removed. Tenant, member and description are created where they are absent. Errors:
// ErrWideOpen, *MismatchError, *RejectedError, *BusyError and those of Conductor.Read; after any of them our edits are
// taken back as far as the conductor answers, and the Edit can only be closed.
func (e *Edit) Apply(ctx context.Context, add, remove []netip.Prefix) error {
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
	add, remove = prefixset.Minus(add, e.now.addresses), prefixset.Both(remove, e.now.addresses)
	if len(add)+len(remove) == 0 {
		return nil
	}
	if err := e.apply(ctx, add, remove); err != nil {
		return e.fail(ctx, fmt.Errorf("apply at %s: %w", e.n.url, err))
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
	want := prefixset.Minus(prefixset.Plus(e.now.addresses, add), remove)
	e.ours.added, e.ours.removed = prefixset.Minus(want, e.base.addresses), prefixset.Minus(e.base.addresses, want)
	describe := len(add) > 0 && !e.now.described && e.c.cfg.Description != ""
	made := &e.ours.created
	made.tenant = made.tenant || !e.now.exists
	made.member = made.member || !e.now.member && len(add) > 0
	made.description = made.description || describe
	made.remade = made.remade || e.now.member && len(remove) > 0
	e.dirty = true
	e.n.setLeftover(&leftover{change: e.ours})

	if err := e.n.describe(ctx, e.c.key, e.now, e.c.cfg.Description, describe); err != nil {
		return err
	}
	got, err := e.n.setAddresses(ctx, e.c.key, e.now, want)
	if err != nil {
		return err
	}
	e.now = got
	if e.n.known().merges {
		e.c.show(e.n)
	}
	err = mismatch(candidate, want, got.addresses)
	var wrong *MismatchError
	if errors.As(err, &wrong) {
		// The list is written whole: what it lost is lost by us, and what is in the place of what we wrote is what the
		// conductor made of that. Both go back with the rest.
		e.ours.removed = prefixset.Plus(e.ours.removed, prefixset.Both(e.base.addresses, wrong.Missing))
		if instead := prefixset.Minus(wrong.Unexpected, e.base.addresses); len(instead) <= len(wrong.Missing) {
			e.ours.added = prefixset.Plus(e.ours.added, instead)
		}
		e.n.setLeftover(&leftover{change: e.ours})
	}
	if wide := refuseWideOpen("the candidate", got.addresses); wide != nil {
		return wide
	}
	return err
}

// fail takes our edits back, so that nothing of a failed change waits in the candidate for somebody's commit.
func (e *Edit) fail(ctx context.Context, err error) error {
	if e.over == nil {
		e.over = err
	}
	if errors.Is(err, ErrUnknownOutcome) {
		// Whatever is asked now may come before the commit has its effect.
		e.dirty = false
	}
	if e.dirty {
		ctx, cancel := cleanup(ctx)
		defer cancel()
		if undoErr := e.revert(ctx); undoErr != nil {
			e.log.Error("own edits could not be taken back", "err", undoErr)
		}
	}
	return err
}

// revert takes back exactly our edits of the candidate.
func (e *Edit) revert(ctx context.Context) error {
	// Running may have moved on: what is in force by now is no edit any more.
	base, err := e.n.readTenant(ctx, running, e.c.key)
	if err != nil {
		return fmt.Errorf("undo own edits: %w", err)
	}
	now, err := e.n.readTenant(ctx, candidate, e.c.key)
	if err != nil {
		return fmt.Errorf("undo own edits: %w", err)
	}
	change := compareTenants(now, base, e.c.cfg.Description)
	// What somebody else did meanwhile stays.
	change.added, change.removed = prefixset.Both(change.added, e.ours.added), prefixset.Both(change.removed, e.ours.removed)
	made := &change.created
	made.tenant = made.tenant && e.ours.created.tenant
	made.member = made.member && e.ours.created.member
	made.description = made.description && e.ours.created.description
	if change.foreign == memberGone && e.ours.created.remade {
		change.removed = base.addresses
	}
	if err := e.n.undo(ctx, e.c.key, now, base, change); err != nil {
		return fmt.Errorf("undo own edits: %w", err)
	}
	e.n.setUndone(change)
	e.dirty = false
	e.n.setLeftover(nil)
	return nil
}

// Commit validates as configured, commits, reads running back and compares it as a set. Errors: *BusyError (with
// Conflict where the device dropped our edits for another commit's), *RejectedError, *MismatchError, ErrWideOpen,
// ErrUnreachable (nothing was committed), and ErrUnknownOutcome: no answer came after the commit was sent. The Edit can
// only be closed afterwards.
func (e *Edit) Commit(ctx context.Context) error {
	if err := e.usable(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	ctx, done, err := e.c.enter(ctx)
	if err != nil {
		return err
	}
	defer done()
	if e.dirty {
		if err := e.commit(ctx); err != nil {
			return e.fail(ctx, fmt.Errorf("commit at %s: %w", e.n.url, err))
		}
	}
	e.dirty = false
	e.n.setLeftover(nil)
	e.over = ErrClosed
	return nil
}

func (e *Edit) commit(ctx context.Context) error {
	if err := e.validate(ctx); err != nil {
		return err
	}
	if err := e.onlyOwnEdits(ctx); err != nil {
		return err
	}
	err := e.n.verdictOf(ctx, "commit", e.c.cfg.Validation)
	var busy *BusyError
	switch {
	case err == nil:
		return e.confirm(ctx)
	case errors.As(err, &busy), errors.Is(err, ErrRejected), errors.Is(err, ErrForbidden), errors.Is(err, ErrLogin):
		return e.afterRefusal(ctx, err)
	case !sent(err):
		return err
	}
	return e.afterSilence(ctx, err)
}

// validate asks for the validation that the configuration wants.
func (e *Edit) validate(ctx context.Context) error {
	mode := e.c.cfg.ValidateMode
	if mode == ValidateNone || mode == ValidateAuto && e.n.known().noValidate {
		return nil
	}
	err := e.n.verdictOf(ctx, "validate", e.c.cfg.Validation)
	var status *StatusError
	if mode == ValidateAuto && errors.As(err, &status) {
		switch status.Status {
		case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
			e.log.Info("conductor has no validate call", "reason", status.Error())
			e.n.learn(func(ab *about) { ab.noValidate = true })
			e.c.show(e.n)
			return nil
		}
	}
	return err
}

// verdictOf asks for validate or commit and reads its verdict: a list of messages that is not empty is a refusal.
func (n *node) verdictOf(ctx context.Context, step string, kind Validation) error {
	for {
		options := map[string]bool{}
		if kind != ValidationNone && step == "commit" && !n.known().noOption {
			options["distributed"] = kind == ValidationDistributed
		}
		a, err := n.call(ctx, http.MethodPost, "/config/"+step, options)
		var status *StatusError
		if errors.As(err, &status) && status.Status == http.StatusBadRequest && len(options) > 0 &&
			strings.Contains(status.Message, "distributed") {
			n.learn(func(ab *about) { ab.noOption = true })
			continue
		}
		if err != nil {
			return refused(step, err)
		}
		return verdictIn(step, messages(a.body), nil)
	}
}

// verdictIn makes an error of the messages of validate and commit, nil where there are none.
func verdictIn(step string, messages []string, cause error) error {
	if len(messages) == 0 {
		return nil
	}
	for _, m := range messages {
		switch lower := strings.ToLower(m); {
		case strings.Contains(lower, "already in progress"):
			return &BusyError{Detail: m, Err: cause}
		case step == "commit" && strings.Contains(lower, "conflict"):
			return &BusyError{Conflict: true, Detail: strings.Join(messages[:min(3, len(messages))], "; "), Err: cause}
		}
	}
	return &RejectedError{Step: step, Messages: messages, Err: cause}
}

// refused makes a refusal of the step of an answer that refuses what was asked; other errors stay as they are.
func refused(step string, err error) error {
	var status *StatusError
	var busy *BusyError
	if errors.As(err, &busy) && !errors.As(err, &status) {
		return err
	}
	if !errors.As(err, &status) || status.Status >= 500 || status.Status < 400 {
		return err
	}
	switch status.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return err
	}
	why := status.messages
	if len(why) == 0 {
		// Not with the status in words, which speak of conflicts themselves.
		why = []string{fmt.Sprintf("%s %s answered %d", status.Method, status.Path, status.Status)}
	}
	refusal := verdictIn(step, why, err)
	if status.Status == http.StatusConflict && !errors.As(refusal, &busy) {
		return err // a *BusyError already
	}
	return refusal
}

// onlyOwnEdits looks once more before a commit: somebody may have begun to edit since.
func (e *Edit) onlyOwnEdits(ctx context.Context) error {
	v, err := e.n.compare(ctx, e.c.key, e.c.cfg.Description)
	if err != nil {
		return err
	}
	if !v.onlyOurs() || len(prefixset.Minus(v.change.added, e.ours.added)) > 0 || len(prefixset.Minus(v.change.removed, e.ours.removed)) > 0 {
		return &BusyError{Dirty: true, Detail: v.detail()}
	}
	want := prefixset.Minus(prefixset.Plus(e.base.addresses, e.ours.added), e.ours.removed)
	return mismatch(candidate, want, v.candidate.addresses)
}

// afterRefusal trusts a refusal no more than an ok: running tells what became of it.
func (e *Edit) afterRefusal(ctx context.Context, refusal error) error {
	got, err := e.n.readTenant(ctx, running, e.c.key)
	if err != nil {
		// It is nothing but unknown: what came in between must not be taken for its kind.
		return fmt.Errorf("%w: %v; then running could not be read: %v", ErrUnknownOutcome, refusal, err)
	}
	if e.holds(got) {
		e.log.Warn("conductor refused the commit, but running holds it", "refusal", refusal.Error())
		return nil
	}
	return refusal
}

// afterSilence is for a commit that was sent and not answered as a commit is.
func (e *Edit) afterSilence(ctx context.Context, cause error) error {
	if got, err := e.n.readTenant(ctx, running, e.c.key); err == nil && e.holds(got) {
		e.log.Warn("no answer to the commit, but running holds it", "err", cause)
		return nil
	}
	return fmt.Errorf("%w: %v", ErrUnknownOutcome, cause)
}

// holds tells whether running is what the commit was to make of it.
func (e *Edit) holds(got *tenantState) bool {
	want := prefixset.Minus(prefixset.Plus(e.base.addresses, e.ours.added), e.ours.removed)
	return mismatch(running, want, got.addresses) == nil
}

// confirm reads running back, after the commit was answered with success. From here on nothing is taken back: what running
// does not show yet may come, and only the conductor knows.
func (e *Edit) confirm(ctx context.Context) error {
	e.dirty = false
	e.n.setLeftover(&leftover{change: e.ours, acked: e.n.now()})
	want := prefixset.Minus(prefixset.Plus(e.base.addresses, e.ours.added), e.ours.removed)
	wait, cancel := context.WithTimeout(ctx, e.c.cfg.Timeout)
	defer cancel()
	var last error // that was not the end of the time
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		got, err := e.n.readTenant(wait, running, e.c.key)
		if wait.Err() != nil && last != nil {
			err = last
		}
		if err == nil {
			if err := refuseWideOpen("running", got.addresses); err != nil {
				return err
			}
			err = mismatch(running, want, got.addresses)
			if err == nil {
				return nil
			}
			if len(prefixset.Minus(e.ours.added, got.addresses)) == 0 && len(prefixset.Both(e.ours.removed, got.addresses)) == 0 {
				e.n.setLeftover(nil)
				return err // it came, and something else with it
			}
			e.log.Info("the commit was answered with success, and running does not show it yet", "err", err)
		}
		again := errors.Is(err, ErrMismatch) || errors.Is(err, ErrUnreachable) || errors.Is(err, ErrProtocol) || errors.Is(err, ErrBusy)
		last = err
		if !again || pauseFor(wait, pause) != nil {
			return fmt.Errorf("%w: the commit was answered with success, and running did not show it in time: %v", ErrUnknownOutcome, err)
		}
	}
}

// Close takes back what was not committed. It does so also after the context has ended, for a few seconds; what it
// cannot take back is remembered for the next Begin. A second Close does nothing.
func (e *Edit) Close(ctx context.Context) error {
	if e.closed {
		return nil
	}
	e.closed = true
	defer e.n.client.CloseIdleConnections()
	if !e.dirty {
		return nil
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	if err := e.revert(ctx); err != nil {
		return fmt.Errorf("close the change at %s: %w", e.n.url, err)
	}
	return nil
}
