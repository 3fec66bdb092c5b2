package server

import (
	"context"
	"iter"
	"net/netip"

	"banmesh/mesh/control"
)

// Agent is what the server asks. A changing call has reached the disk when it returns. Errors that are *Error keep their
// code; every other error is CodeInternal.
type Agent interface {
	Ban(ctx context.Context, c control.BanCall) (control.BanReply, error)
	Unban(ctx context.Context, c control.UnbanCall) (control.UnbanReply, error)
	Allow(ctx context.Context, c control.AllowCall) (control.AllowReply, error)
	DropAllow(ctx context.Context, c control.DropAllowCall) (control.DropAllowReply, error)
	Allows(ctx context.Context) ([]control.Allow, error)
	Fail2ban(ctx context.Context, c control.HookCall) (control.HookReply, error)
	// TakeIn takes what the local fail2ban holds already as bans of this router; what is not shared stays there.
	TakeIn(ctx context.Context, c control.TakeInCall) (control.TakeInReply, error)

	// List yields the live bans that the query selects, in its order, and says how many there are without its Offset and
	// Limit. The sequence is read as fast as the caller's terminal takes it: it must hold no lock.
	List(ctx context.Context, q control.ListQuery) (bans iter.Seq[control.Ban], total int, err error)
	Why(ctx context.Context, p netip.Prefix) (control.Why, error)
	Members(ctx context.Context) ([]control.Member, error)
	Status(ctx context.Context) (control.Status, error)
	Diff(ctx context.Context) (control.Diff, error)
	// History returns what was, and Stats counts it.
	History(ctx context.Context, q control.HistoryQuery) (control.History, error)
	Stats(ctx context.Context, q control.StatsQuery) (control.Stats, error)
	// Events calls yield with each event from now on until ctx ends or yield returns an error.
	Events(ctx context.Context, yield func(control.Event) error) error

	Commit(ctx context.Context, c control.CommitCall) (control.CommitReply, error)
	Join(ctx context.Context, c control.JoinCall) (control.JoinReply, error)
	Invite(ctx context.Context, c control.InviteCall) (control.InviteReply, error)
	// Invitations returns those that are open; Uninvite takes some of them back.
	Invitations(ctx context.Context) ([]control.Invitation, error)
	Uninvite(ctx context.Context, c control.UninviteCall) (control.UninviteReply, error)
	// Leave announces the leave and starts the clean stop; it returns when the others have been told.
	Leave(ctx context.Context) error
	Forget(ctx context.Context, c control.ForgetCall) error
	Freeze(ctx context.Context) error
	Thaw(ctx context.Context) error
	Revoke(ctx context.Context, c control.RevokeCall) (control.RevokeReply, error)
	Keyring(ctx context.Context, c control.KeyringCall) (control.KeyringReply, error)
}
