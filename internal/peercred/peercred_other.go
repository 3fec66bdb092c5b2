//go:build !linux

package peercred

import (
	"errors"
	"syscall"
)

func of(syscall.RawConn) (Credentials, error) { return Credentials{}, errors.ErrUnsupported }
