package enforce

import (
	"testing"

	"golang.org/x/sys/unix"
)

// dup copies a file descriptor, for an os.File that closes its own.
func dup(t testing.TB, fd int) int {
	t.Helper()
	d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
