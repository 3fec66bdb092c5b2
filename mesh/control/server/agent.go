package server

import (
	"context"
	"iter"
	"net/netip"

	"banmesh/mesh/control"
)

// Agent is what the server needs of the agent. A changing call returns once the change is on disk. An *Error keeps its code;
// any other error becomes CodeInternal.
type Agent interface {
	Ban(ctx context.Context, c control.BanCall) (control.BanReply, error)
	Unban(ctx context.Context, c control.UnbanCall) (control.UnbanReply, error)
	Allow(ctx context.Context, c control.AllowCall) (control.AllowReply, error)
	DropAllow(ctx context.Context, c control.DropAllowCall) (control.DropAllowReply, error)
	Allows(ctx context.Context) ([]control.Allow, error)
	Fail2ban(ctx context.Context, c control.HookCall) (control.HookReply, error)
	// TakeIn shares bans that the local fail2ban already holds as bans of this router; some may stay unshared.
	TakeIn(ctx context.Context, c control.TakeInCall) (control.TakeInReply, error)

	// List yields the live bans that the query selects, in its order, and their number without its Offset and Limit. The
	// caller's terminal may read the sequence slowly, so it must hold no lock.
	List(ctx context.Context, q control.ListQuery) (bans iter.Seq[control.Ban], total int, err error)
	Why(ctx context.Context, p netip.Prefix) (control.Why, error)
	Members(ctx context.Context) ([]control.Member, error)
	Status(ctx context.Context) (control.Status, error)
	Diff(ctx context.Context) (control.Diff, error)
	// History returns past events, and Stats counts them.
	History(ctx context.Context, q control.HistoryQuery) (control.History, error)
	Stats(ctx context.Context, q control.StatsQuery) (control.Stats, error)
	// Events calls yield with each event from now on until ctx ends or yield returns an error.
	Events(ctx context.Context, yield func(control.Event) error) error

	Commit(ctx context.Context, c control.CommitCall) (control.CommitReply, error)
	Join(ctx context.Context, c control.JoinCall) (control.JoinReply, error)
	Invite(ctx context.Context, c control.InviteCall) (control.InviteReply, error)
	// Invitations returns the open ones; Uninvite cancels some of them.
	Invitations(ctx context.Context) ([]control.Invitation, error)
	Uninvite(ctx context.Context, c control.UninviteCall) (control.UninviteReply, error)
	// Leave announces the leave and starts the clean stop. It returns when the others have been told.
	Leave(ctx context.Context) error
	Forget(ctx context.Context, c control.ForgetCall) error
	Freeze(ctx context.Context) error
	Thaw(ctx context.Context) error
	Revoke(ctx context.Context, c control.RevokeCall) (control.RevokeReply, error)
	Keyring(ctx context.Context, c control.KeyringCall) (control.KeyringReply, error)
}
