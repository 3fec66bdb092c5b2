// Package peercred tells who is at the other end of a unix socket, by the kernel's word.
package peercred

import (
	"errors"
	"net"
)

// Credentials are those of the process that connected.
type Credentials struct {
	UID, GID uint32
	PID      int32
}

// Of returns the credentials of the peer of conn. It is errors.ErrUnsupported where conn is no unix socket, or where the
// system does not tell.
func Of(conn net.Conn) (Credentials, error) {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return Credentials{}, errors.ErrUnsupported
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return Credentials{}, err
	}
	return of(raw)
}
