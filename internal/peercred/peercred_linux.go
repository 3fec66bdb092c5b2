package peercred

import "syscall"

// of asks for SO_PEERCRED (unix(7)).
func of(raw syscall.RawConn) (Credentials, error) {
	var (
		cred *syscall.Ucred
		err  error
	)
	if failed := raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); failed != nil {
		return Credentials{}, failed
	}
	if err != nil {
		return Credentials{}, err
	}
	return Credentials{cred.Uid, cred.Gid, cred.Pid}, nil
}
