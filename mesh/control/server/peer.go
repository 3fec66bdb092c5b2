package server

import (
	"context"
	"log/slog"
	"net"
)

// credentials are the caller's, as the kernel knows them.
type credentials struct {
	uid, gid uint32
	pid      int32
}

type peerKey struct{}

// withPeer keeps the caller's credentials with its connection.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return ctx
	}
	cred, err := peerCredentials(raw)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred)
}

// peerAttr names the caller for the log.
func peerAttr(ctx context.Context) slog.Attr {
	cred, ok := ctx.Value(peerKey{}).(credentials)
	if !ok {
		return slog.String("caller", "unknown")
	}
	return slog.Group("caller", "uid", cred.uid, "gid", cred.gid, "pid", cred.pid)
}
