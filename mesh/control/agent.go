package control

import (
	"context"
	"iter"
	"net/netip"
)

// Agent is what the server asks. A changing call has reached the disk when it returns. Errors that are *Error keep their
// code; every other error is CodeInternal.
type Agent interface {
	Ban(ctx context.Context, c BanCall) (BanReply, error)
	Unban(ctx context.Context, c UnbanCall) (UnbanReply, error)
	Allow(ctx context.Context, c AllowCall) (AllowReply, error)
	DropAllow(ctx context.Context, c DropAllowCall) (DropAllowReply, error)
	Allows(ctx context.Context) ([]Allow, error)
	Fail2ban(ctx context.Context, c HookCall) (HookReply, error)
	// TakeIn takes what the local fail2ban holds already as bans of this router; what is not shared stays there.
	TakeIn(ctx context.Context, c TakeInCall) (TakeInReply, error)

	// List yields the live bans in the order of their prefixes: all for the zero prefix, else that prefix, what covers it
	// and what is inside. The sequence is read as fast as the caller's terminal takes it: it must hold no lock.
	List(ctx context.Context, prefix netip.Prefix) (iter.Seq[Ban], error)
	Why(ctx context.Context, ip netip.Addr) (Why, error)
	Members(ctx context.Context) ([]Member, error)
	Status(ctx context.Context) (Status, error)
	Diff(ctx context.Context) (Diff, error)
	// Events calls yield with each event from now on until ctx ends or yield returns an error.
	Events(ctx context.Context, yield func(Event) error) error

	Commit(ctx context.Context, c CommitCall) (CommitReply, error)
	Join(ctx context.Context, c JoinCall) (JoinReply, error)
	// Leave announces the leave and starts the clean stop; it returns when the others have been told.
	Leave(ctx context.Context) error
	Freeze(ctx context.Context) error
	Thaw(ctx context.Context) error
	Revoke(ctx context.Context, c RevokeCall) (RevokeReply, error)
	Keyring(ctx context.Context, c KeyringCall) (KeyringReply, error)
}
