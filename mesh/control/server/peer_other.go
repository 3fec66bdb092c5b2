//go:build !linux

package server

import (
	"errors"
	"syscall"
)

// peerCredentials is known on Linux only: elsewhere the log says "unknown".
func peerCredentials(syscall.RawConn) (credentials, error) {
	return credentials{}, errors.ErrUnsupported
}
