package server

import (
	"context"
	"log/slog"
	"net"

	"banmesh/internal/peercred"
)

type peerKey struct{}

// withPeer stores the caller's credentials in the connection's context.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	cred, err := peercred.Of(c)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred)
}

// callerOf returns the credentials that withPeer stored.
func callerOf(ctx context.Context) (peercred.Credentials, bool) {
	cred, ok := ctx.Value(peerKey{}).(peercred.Credentials)
	return cred, ok
}

// peerAttr names the caller for the log.
func peerAttr(ctx context.Context) slog.Attr {
	cred, ok := callerOf(ctx)
	if !ok {
		return slog.String("caller", "unknown")
	}
	return slog.Group("caller", "uid", cred.UID, "gid", cred.GID, "pid", cred.PID)
}
