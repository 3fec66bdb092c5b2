package mesh

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"banmesh/mesh/commit"
	"banmesh/mesh/conductor"
	"banmesh/mesh/control"
	"banmesh/mesh/leader"
)

// Diff returns what the next commit would change at the conductor.
func (a *Agent) Diff(ctx context.Context) (control.Diff, error) { return a.lead.diff(ctx) }

// Commit has the leader commit now, which may be this agent.
func (a *Agent) Commit(ctx context.Context, c control.CommitCall) (control.CommitReply, error) {
	if c.DryRun {
		d, err := a.Diff(ctx)
		return control.CommitReply{Diff: d}, err
	}
	lead, let := a.lead.elector.Status(), 0
	if c.Force {
		n, err := a.store.ConfirmHeld(ctx)
		if err != nil {
			return control.CommitReply{}, refusal(err)
		}
		let = n
	}
	reply, err := a.lead.commitBy(ctx, lead, c.Force)
	if let > 0 {
		text := fmt.Sprintf("%d held bans take effect on this router", let)
		if err != nil { // where nobody commits, that is all there is to do
			if a.lead.committer != nil {
				return reply, control.Errorf(control.CodeConflict, "%s; %v", text, err)
			}
			reply, err = control.CommitReply{Detail: text}, nil
		} else {
			reply.Detail = strings.TrimPrefix(reply.Detail+"; "+text, "; ")
		}
	}
	return reply, err
}

// diff works out a plan; it may read the tenant, which takes as long as the conductor does.
func (l *lead) diff(ctx context.Context) (control.Diff, error) {
	if l.committer == nil {
		return control.Diff{}, commitRefusal(commit.ErrOff)
	}
	plan, err := l.committer.Plan(ctx)
	return diff(plan), commitRefusal(err)
}

func diff(p commit.Plan) control.Diff {
	return control.Diff{Add: p.Add, Remove: p.Remove, Foreign: p.Foreign, Capped: p.Capped, Held: p.Held, HeldAdd: p.HeldAdd}
}

// commitBy has who leads commit.
func (l *lead) commitBy(ctx context.Context, lead leader.Status, force bool) (control.CommitReply, error) {
	switch {
	case lead.Self:
		return l.commitHere(ctx, force)
	case lead.Leader == "" && l.committer == nil:
		return control.CommitReply{}, commitRefusal(commit.ErrOff)
	case lead.Leader == "":
		return control.CommitReply{}, control.Errorf(control.CodeConflict, "commit: no router leads now: `banmesh status` says why")
	}
	return l.Peers.CommitAt(ctx, lead.Leader, force)
}

// commitHere is for the member that leads; the others forward the request to it, see peer. An empty plan is a
// success that commits nothing.
func (l *lead) commitHere(ctx context.Context, force bool) (control.CommitReply, error) {
	if l.committer == nil {
		return control.CommitReply{}, commitRefusal(commit.ErrOff)
	}
	result, err := l.committer.CommitNow(ctx, force)
	if err != nil {
		return control.CommitReply{}, commitRefusal(err)
	}
	reply := control.CommitReply{Diff: diff(result.Plan), Leader: l.Config.Name, Committed: !result.Plan.Empty()}
	if reply.Committed {
		reply.Detail = fmt.Sprintf("%d added, %d removed in %v", len(reply.Add), len(reply.Remove), result.Took.Round(time.Millisecond))
	}
	return reply, nil
}

// commitFor commits for another router.
func (l *lead) commitFor(ctx context.Context, force bool) (control.CommitReply, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(l.Config.Commit.Timeout))
	defer cancel()
	// Force counts only where an operator gives it: from afar it could come from anybody with the gossip key.
	reply, err := l.commitHere(ctx, false)
	if held := len(reply.Held) + len(reply.HeldAdd); err == nil && force && held > 0 {
		err = fmt.Errorf("%d changes are held, and --force confirms them only on the leader itself: run `banmesh commit --force` on %s", held, l.Config.Name)
	}
	return reply, err
}

// commitRefusal gives what an operator can wait for or change the code of a conflict. Everything else is a
// failure.
func commitRefusal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, commit.ErrOff), errors.Is(err, commit.ErrNotLeader), errors.Is(err, commit.ErrNotReady),
		errors.Is(err, conductor.ErrBusy), errors.Is(err, commit.ErrBarred):
		return &control.Error{Code: control.CodeConflict, Message: err.Error()}
	}
	return &control.Error{Code: control.CodeInternal, Message: err.Error()}
}
