package control

import (
	"context"
	"log/slog"
	"net"
	"syscall"
)

type peerKey struct{}

// withPeer keeps the caller's credentials as the kernel knows them (SO_PEERCRED, unix(7)) with its connection.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *syscall.Ucred
	if raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}) != nil || err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred)
}

// peerAttr names the caller for the log.
func peerAttr(ctx context.Context) slog.Attr {
	cred, ok := ctx.Value(peerKey{}).(*syscall.Ucred)
	if !ok {
		return slog.String("caller", "unknown")
	}
	return slog.Group("caller", "uid", cred.Uid, "gid", cred.Gid, "pid", cred.Pid)
}
