package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"banmesh/mesh/conductor"
)

var _ conductor.Session = (*restSession)(nil)

// restSession edits the tenant at one node. The API has no session and no lock; extra reads make up for the lock.
type restSession struct {
	n      *node
	key    conductor.Key
	ab     about // as of the session's start
	closed atomic.Bool
}

func (s *restSession) At() conductor.SessionAt { return conductor.SessionAt{Node: s.n.url} }
func (s *restSession) Identity() string        { return s.ab.release }
func (s *restSession) Alive() bool             { return !s.closed.Load() }

// Candidate takes an unknown style for one candidate per node. That is safe because REST has no lock in any
// style: what differs from running is compared before each commit.
func (s *restSession) Candidate() conductor.Candidate {
	switch s.ab.style {
	case styleUser:
		return conductor.PrivateCandidate
	case styleShared:
		return conductor.SharedCandidate
	}
	return conductor.NodeCandidate
}

// Features says in one line what this conductor can do, so that an operator's report of trouble has it.
func (s *restSession) Features(lacks conductor.Abilities) string {
	ab := s.n.known()
	text := "REST"
	if ab.release != "" {
		text += " of release " + ab.release
	}
	text += ", " + ab.style.String() + ", no lock: the candidate is compared with running"
	if s.n.cfg.ValidateMode == conductor.ValidateNone || lacks[conductor.AbilityValidate] {
		text += ", validated by the commit alone"
	} else {
		text += ", validate before commit"
	}
	if ab.merges {
		text += ", PATCH merges: the member is made anew to remove addresses"
	}
	return text
}

// Warnings returns what the conductor does not tell, and what expires soon.
func (s *restSession) Warnings() []string {
	var w []string
	if s.ab.style == styleUnknown {
		w = append(w, "the conductor does not tell its release, so its candidate is taken as shared by all administrators: set commit.candidate (user from release 5.6 on)")
	}
	if text := s.n.trust.ending(s.n.url); text != "" {
		w = append(w, text)
	}
	return w
}

func lacking(what string) error { return fmt.Errorf("%s over REST: %w", what, errors.ErrUnsupported) }

// Lock is not supported.
func (s *restSession) Lock(context.Context) error { return lacking("lock") }

// Unlock is not supported.
func (s *restSession) Unlock(context.Context) error { return lacking("unlock") }

// Kill is not supported: there are no sessions.
func (s *restSession) Kill(context.Context, uint64) error { return lacking("kill") }

func (s *restSession) Read(ctx context.Context, store conductor.Datastore) (*conductor.Tenant, error) {
	return s.n.readTenant(ctx, string(store), s.key)
}

// Compare tells other people's edits from a candidate of this user that is merely older than running.
func (s *restSession) Compare(ctx context.Context) (*conductor.Difference, error) {
	d, err := s.n.compare(ctx, s.key)
	if err != nil || s.ab.style != styleUser || d.Foreign == "" {
		return d, err
	}
	// Only the conductor knows whether a differing candidate is behind or edited. It has been seen to call a clean candidate
	// changed, but never the reverse.
	ab, err := s.n.look(ctx)
	if err != nil {
		return nil, err
	}
	d.Behind = !ab.noFlag && !ab.dirty
	return d, nil
}

// Validate reports a release without the call as errors.ErrUnsupported, which package conductor remembers.
func (s *restSession) Validate(ctx context.Context) error {
	if s.n.cfg.ValidateMode == conductor.ValidateNone {
		return nil
	}
	err := s.n.verdictOf(ctx, "validate", s.n.cfg.Validation)
	var status *statusError
	if errors.As(err, &status) {
		switch status.Status {
		case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
			return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		}
	}
	return err
}

// Commit returns ErrUnknown if the call was sent and not clearly answered: it may have taken effect, and only
// reading running tells.
func (s *restSession) Commit(ctx context.Context) error {
	err := s.n.verdictOf(ctx, "commit", s.n.cfg.Validation)
	var busy *conductor.BusyError
	switch {
	// Each of these is an answer, or shows that nothing was sent.
	case err == nil, errors.As(err, &busy), errors.Is(err, conductor.ErrRejected), errors.Is(err, conductor.ErrLogin), !sent(err):
		return err
	}
	return fmt.Errorf("%w: %v", conductor.ErrUnknown, err)
}

// Discard reverts the candidate. It refuses to on one that all nodes share, which is never behind running: there it could only
// drop other people's edits.
func (s *restSession) Discard(ctx context.Context) error {
	if s.ab.style != styleUser && s.ab.style != styleNode {
		return lacking("revert a candidate of others")
	}
	_, err := s.n.call(ctx, http.MethodPost, "/config/revertToRunning", struct{}{})
	return refused("revert", err)
}

// Close leaves the login, which belongs to the node and serves the next session as well.
func (s *restSession) Close(context.Context) error {
	if !s.closed.Swap(true) {
		s.n.client.CloseIdleConnections()
	}
	return nil
}

// errComplaints is the API's own form of a refusal.
var errComplaints = errors.New("the answer lists what is wrong")

// verdictOf calls validate or commit and reads the verdict: a list of messages that is not empty is a refusal.
func (n *node) verdictOf(ctx context.Context, step string, kind conductor.Validation) error {
	for {
		options := map[string]bool{}
		if kind != conductor.ValidationNone && step == "commit" && !n.known().noOption {
			// The kind of validation is an option of the commit alone.
			options["distributed"] = kind == conductor.ValidationDistributed
		}
		a, err := n.call(ctx, http.MethodPost, "/config/"+step, options)
		var status *statusError
		if errors.As(err, &status) && status.Status == http.StatusBadRequest && len(options) > 0 &&
			strings.Contains(status.Message, "distributed") {
			// The next round goes without the option, so there is one more at most.
			n.learn(func(ab *about) { ab.noOption = true })
			continue
		}
		if err != nil {
			return refused(step, err)
		}
		var cause error // stays nil for a single object, whose words may be praise
		if isArray(bytes.TrimSpace(a)) {
			cause = errComplaints
		}
		return verdictIn(step, complaints(step, a), cause)
	}
}

// verdictIn makes an error of the messages of validate or commit; nil for none.
func verdictIn(step string, messages []string, cause error) error {
	if len(messages) == 0 {
		return nil
	}
	for _, m := range messages {
		switch lower := strings.ToLower(m); {
		case strings.Contains(lower, "already in progress"):
			return &conductor.BusyError{Detail: m, Err: cause}
		case step == "commit" && strings.Contains(lower, "conflict"):
			return &conductor.BusyError{Conflict: true, Detail: strings.Join(messages[:min(3, len(messages))], "; "), Err: cause}
		}
	}
	return &conductor.RejectedError{Step: step, Messages: messages, Err: cause}
}

// refused turns an answer that refuses the request into a refusal of the step. Other errors stay as they are.
func refused(step string, err error) error {
	var status *statusError
	var busy *conductor.BusyError
	if errors.As(err, &busy) && !errors.As(err, &status) {
		return err
	}
	// A server in trouble has not judged the request, and a redirect has not reached it.
	if !errors.As(err, &status) || status.Status >= 500 || status.Status < 400 {
		return err
	}
	switch status.Status {
	// These are about the caller and not about the change.
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return err
	}
	why := status.messages
	if len(why) == 0 {
		// Leave out the name of the status: "Conflict" would look like a conflict.
		why = []string{fmt.Sprintf("%s %s answered %d", status.Method, status.Path, status.Status)}
	}
	refusal := verdictIn(step, why, err)
	if status.Status == http.StatusConflict && !errors.As(refusal, &busy) {
		return err // already a *conductor.BusyError
	}
	return refusal
}
