package netconf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"

	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/prefixset"
	"banmesh/netconfclient"
)

var _ conductor.Session = (*session)(nil)

// session is one NETCONF session that edits the tenant.
type session struct {
	d      *driver
	cfg    *Config
	nc     *netconfclient.Session
	path   path
	closed atomic.Bool
}

// identity names a server as far as what was learned about it holds: after an upgrade that changes its
// capabilities it is tried anew.
func identity(nc *netconfclient.Session) string {
	return nc.Address() + " " + strings.Join(nc.Capabilities(), " ")
}

func (s *session) At() conductor.SessionAt {
	return conductor.SessionAt{Node: s.nc.Address(), ID: s.nc.ID()}
}
func (s *session) Identity() string                          { return identity(s.nc) }
func (s *session) Features(lacks conductor.Abilities) string { return s.path.features(lacks) }
func (s *session) Alive() bool                               { return s.nc.Alive() }

// Candidate: RFC 6241 section 8.3.1 leaves it to the server whether sessions share one candidate; the
// conductor's do.
func (s *session) Candidate() conductor.Candidate {
	if s.path.target == netconfclient.RunningStore {
		return conductor.NoCandidate
	}
	return conductor.SharedCandidate // in all releases with NETCONF
}

// Warnings returns what a restart of the server would undo.
func (s *session) Warnings() []string {
	s.d.mu.Lock()
	why := s.d.unsaved[s.nc.Address()]
	s.d.mu.Unlock()
	if why != "" {
		return []string{"what was committed would not survive a reboot of " + s.nc.Address() + ": running was not copied to startup: " + why}
	}
	if s.nc.Offers(netconfclient.CapStartup) && !s.cfg.SaveStartup {
		return []string{"the conductor has a startup configuration of its own: what is committed is lost when it restarts, unless commit.save_startup is set"}
	}
	return nil
}

// bound limits the time of one operation.
func (s *session) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, s.cfg.Timeout,
		fmt.Errorf("no answer within %v: %w", s.cfg.Timeout, context.DeadlineExceeded))
}

// Lock tells apart what the standard and the servers say: a lock held by a session (lock-denied, RFC 6241
// appendix A), a candidate with uncommitted changes (resource-denied with some servers), and errors that may
// mean either.
func (s *session) Lock(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	err := s.nc.Lock(ctx, s.path.target)
	var errs netconfclient.RPCErrors
	switch {
	case !errors.As(err, &errs):
		return failure(err)
	case unsupported(errs):
		return fmt.Errorf("%w: lock: %w", errors.ErrUnsupported, errs)
	case errs.Has("lock-denied"), errs.Has("in-use"):
		return &conductor.LockedError{Holder: errs.Holder(), Err: errs}
	case errs.Has("resource-denied"), errs.Has("operation-failed"):
		return &conductor.LockedError{Holder: errs.Holder(), Uncommitted: errs.Has("resource-denied"), Unclear: true, Err: errs}
	}
	return refused("lock", errs)
}

// Unlock needs no success: the server gives the lock back when the session ends.
func (s *session) Unlock(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return refused("unlock", s.nc.Unlock(ctx, s.path.target))
}

// Kill ends another session, which must have been announced by a former leader; package conductor checks
// that.
func (s *session) Kill(ctx context.Context, id uint64) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	err := s.nc.KillSession(ctx, id)
	var errs netconfclient.RPCErrors
	if errors.As(err, &errs) {
		return rejected("kill-session", errs)
	}
	return failure(err)
}

// Read asks for the one tenant (a subtree filter, RFC 6241 section 6). A reply that cannot be understood ends
// the session: the next one may not belong to its question either.
func (s *session) Read(ctx context.Context, store conductor.Datastore) (*conductor.Tenant, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	r, err := s.nc.GetConfig(ctx, netconfclient.Datastore(store), filter(s.cfg.Key()))
	if err != nil {
		return nil, refused("get-config", err)
	}
	t, err := parseTenant(r, s.cfg.Key())
	if err != nil {
		return nil, s.breach(err)
	}
	return t, nil
}

// breach closes the session of a server whose data cannot be right.
func (s *session) breach(err error) error {
	_ = s.nc.Breach(err)
	if errors.Is(err, conductor.ErrProtocol) {
		return err
	}
	return fmt.Errorf("%w: %w", conductor.ErrProtocol, err)
}

// maxRounds bounds how often a removal is repeated for a server that holds the same address several times.
const maxRounds = 5

// Write returns the tenant as the target holds it afterwards. Without a candidate the target is running, so that an error after
// the edit means that nobody knows what running holds (ErrUnknown), and the result is saved to startup at once.
func (s *session) Write(ctx context.Context, now *conductor.Tenant, c conductor.Change) (*conductor.Tenant, error) {
	options := s.path.editOptions()
	if c.Like != nil {
		options = netconfclient.EditOptions{Default: "merge"} // restoring a former state needs no test, and must not fail one
	}
	change := newEdit(s.cfg.Key(), now, c, s.path.removeOp)
	for round := 1; ; round++ {
		if err := s.edit(ctx, change, options); err != nil {
			return nil, err
		}
		got, err := s.Read(ctx, conductor.Datastore(s.path.target))
		if err != nil {
			if s.path.target == netconfclient.RunningStore {
				err = fmt.Errorf("%w: running could not be read back: %v", conductor.ErrUnknown, err)
			}
			return nil, err
		}
		again := prefixset.Both(c.Remove, got.Addresses)
		// If an addition is missing, something else is wrong: the caller compares what was read with what it
		// wanted.
		if len(again) == 0 || round == maxRounds || len(prefixset.Minus(c.Add, got.Addresses)) > 0 {
			if s.path.target == netconfclient.RunningStore {
				s.save(ctx, nil)
			}
			return got, nil
		}
		// One server stores the same text twice and removes one at a time.
		change = newEdit(s.cfg.Key(), got, conductor.Change{Remove: again}, s.path.removeOp)
	}
}

// edit sends a change to the target. It sends it again if the server refused its form rather than its content.
func (s *session) edit(ctx context.Context, change tenantEdit, o netconfclient.EditOptions) error {
	for {
		// Each further round is without the test or with a smaller removal, so the loop ends.
		err := s.editOnce(ctx, change, o)
		var errs netconfclient.RPCErrors
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &errs):
			return failure(err)
		case o.Test != "" && refusesTest(errs) && s.cfg.ValidateMode == conductor.ValidateAuto:
			s.cfg.Logger.Info("conductor has no test-then-set", "conductor", s.nc.Address(), "reason", errs.Error())
			s.d.mu.Lock()
			s.d.noTestThenSet[identity(s.nc)] = true
			s.d.mu.Unlock()
			s.path = s.d.path(s.nc)
			o.Test = ""
		case errs.Only("data-missing") && len(change.remove) > 0:
			// An address was removed meanwhile, or the server treats remove like delete: ask only for what is still there.
			now, readErr := s.Read(ctx, conductor.Datastore(s.path.target))
			if readErr != nil {
				return readErr
			}
			left := stillThere(change.remove, now)
			if len(left) == len(change.remove) {
				return rejected("edit-config", errs)
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

// editOnce sends one edit-config, without judging the answer.
func (s *session) editOnce(ctx context.Context, change tenantEdit, o netconfclient.EditOptions) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return s.nc.EditConfig(ctx, s.path.target, o, change.config())
}

// refusesTest reports whether the server refused the test-option.
func refusesTest(errs netconfclient.RPCErrors) bool {
	for _, e := range errs {
		if e.Tag == "operation-not-supported" || strings.Contains(e.Error(), "test-option") {
			return true
		}
	}
	return false
}

// stillThere returns the spellings of removed addresses that a reading still shows. An address can be in the
// tenant in more than one spelling, and each is an entry of its own.
func stillThere(remove []string, now *conductor.Tenant) []string {
	there := make(map[string]bool)
	for _, p := range now.Addresses {
		for _, t := range now.Texts(p) {
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

// Validate does nothing if the commit validates by itself, or the server cannot.
func (s *session) Validate(ctx context.Context) error {
	if s.path.validate != conductor.ValidateExplicit {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return refused("validate", s.nc.Validate(ctx, netconfclient.CandidateStore))
}

// Commit also copies running to startup if that is configured and the server has a startup, so that a restart
// keeps the bans.
func (s *session) Commit(ctx context.Context) error {
	err := s.commit(ctx)
	s.save(ctx, err)
	return err
}

// commit sends 128T's validation-type, and again without it to a release that does not know it: that answer
// shows that the commit has not begun.
func (s *session) commit(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if s.path.leaf == conductor.ValidationNone {
		return refused("commit", s.nc.Commit(ctx))
	}
	err := s.nc.Commit(ctx, netconfclient.Leaf("validation-type", string(s.path.leaf)).In(nsValidate))
	var errs netconfclient.RPCErrors
	if !errors.As(err, &errs) || !refusesLeaf(errs) {
		return refused("commit", err)
	}
	// A release without the leaf has only one way to validate. It refused an unknown element, so the commit has not started.
	s.cfg.Logger.Info("conductor's commit takes no validation-type", "conductor", s.nc.Address(), "reason", errs.Error())
	s.d.mu.Lock()
	s.d.noLeaf[identity(s.nc)] = true
	s.d.mu.Unlock()
	s.path = s.d.path(s.nc)
	return refused("commit", s.nc.Commit(ctx))
}

// refusesLeaf reports whether a commit was refused only because of the vendor's leaf. Nothing else in a commit can be unknown, so an
// error that does not name the element means the leaf too.
func refusesLeaf(errs netconfclient.RPCErrors) bool {
	if !errs.Only("unknown-element") && !errs.Only("unknown-namespace") {
		return false
	}
	text := errs.Error()
	return strings.Contains(text, "validat") || !strings.Contains(text, "[bad-element=")
}

// save copies running to startup after a change of running, if configured; answer is the answer to that change. The change is
// in force however the copy ends. The next session repeats a copy that failed.
func (s *session) save(ctx context.Context, answer error) {
	if !s.cfg.SaveStartup || !s.nc.Offers(netconfclient.CapStartup) || answer != nil && !errors.Is(answer, conductor.ErrUnknown) {
		return
	}
	// After an unknown outcome nothing is copied, as running may hold anything; it is noted as unsaved, so that
	// the next session does it.
	err := answer
	if err == nil {
		ctx, cancel := s.bound(ctx)
		defer cancel()
		err = s.nc.CopyConfig(ctx, netconfclient.StartupStore, netconfclient.RunningStore)
	}
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	delete(s.d.unsaved, s.nc.Address())
	if err != nil {
		s.d.unsaved[s.nc.Address()] = conductor.OneLine(err.Error())
		s.cfg.Logger.Warn("what was committed would not survive a reboot: running cannot be copied to startup", "conductor", s.nc.Address(), "err", err)
	}
}

// Discard throws away the whole candidate, and so is used only under the own lock.
func (s *session) Discard(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	err := s.nc.DiscardChanges(ctx)
	var errs netconfclient.RPCErrors
	if errors.As(err, &errs) && unsupported(errs) {
		return fmt.Errorf("%w: discard-changes: %w", errors.ErrUnsupported, errs)
	}
	return refused("discard-changes", err)
}

// Cut is not supported: NETCONF shows no traffic.
func (s *session) Cut(context.Context, []netip.Prefix) (int, error) {
	return 0, fmt.Errorf("cut sessions over NETCONF: %w", errors.ErrUnsupported)
}

// Close ends the session with close-session, if there is time.
func (s *session) Close(ctx context.Context) error {
	if s.closed.Swap(true) {
		return nil
	}
	// Without time the connection is just closed: the server then gives back the lock by itself (RFC 6241
	// section 7.5).
	if !s.nc.Alive() || ctx.Err() != nil {
		return s.nc.Close()
	}
	return failure(s.nc.CloseSession(ctx))
}

// failure maps an error of netconfclient to one of package conductor.
func failure(err error) error {
	// An error may be of two kinds: an unknown outcome also says how the session broke. The first that fits
	// counts.
	for _, k := range []struct{ from, to error }{
		{netconfclient.ErrUnknownOutcome, conductor.ErrUnknown},
		{netconfclient.ErrClosed, conductor.ErrClosed},
		{netconfclient.ErrLogin, conductor.ErrLogin},
		{netconfclient.ErrKeyFile, conductor.ErrSecret},
		{netconfclient.ErrHostKey, conductor.ErrHostKey},
		{netconfclient.ErrProtocol, conductor.ErrProtocol},
		{netconfclient.ErrUnreachable, conductor.ErrUnreachable},
	} {
		if errors.Is(err, k.from) && !errors.Is(err, k.to) {
			return &failed{k.to, err}
		}
	}
	if err != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return &failed{conductor.ErrUnreachable, err} // nothing was sent
	}
	return err
}

// failed has the text of a NETCONF error and the kind of one of package conductor.
type failed struct{ kind, err error }

func (e *failed) Error() string   { return e.err.Error() }
func (e *failed) Unwrap() []error { return []error{e.kind, e.err} }

// refused turns rpc-errors into a *BusyError if somebody else is in the way, and else into a *RejectedError of the step.
func refused(step string, err error) error {
	var errs netconfclient.RPCErrors
	if !errors.As(err, &errs) {
		return failure(err)
	}
	for _, e := range errs {
		// Somebody else is in the way. The last condition is the device's own wording.
		if e.Tag == "lock-denied" || e.Tag == "in-use" || strings.Contains(e.Message, "is already in progress") {
			return &conductor.BusyError{Holder: errs.Holder(), Detail: errs.Error(), Err: errs}
		}
	}
	return rejected(step, errs)
}

// rejected keeps every message of the server; how many are shown is decided where they are.
func rejected(step string, errs netconfclient.RPCErrors) error {
	e := &conductor.RejectedError{Step: step, Err: errs}
	for _, r := range errs {
		e.Messages = append(e.Messages, r.Error())
	}
	return e
}

// unsupported reports whether the server does not know the operation at all.
func unsupported(errs netconfclient.RPCErrors) bool {
	// To some servers the operation is just an element that they do not know. Beside other errors that is about
	// the content.
	return errs.Has("operation-not-supported") || errs.Has("unknown-element") && len(errs) == 1
}
