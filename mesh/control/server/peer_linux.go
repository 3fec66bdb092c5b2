package server

import "syscall"

// peerCredentials asks the kernel who is at the other end (SO_PEERCRED, unix(7)).
func peerCredentials(raw syscall.RawConn) (credentials, error) {
	var (
		cred *syscall.Ucred
		err  error
	)
	if failed := raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); failed != nil {
		return credentials{}, failed
	}
	if err != nil {
		return credentials{}, err
	}
	return credentials{cred.Uid, cred.Gid, cred.Pid}, nil
}
