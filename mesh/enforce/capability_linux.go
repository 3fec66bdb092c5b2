package enforce

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// KeepCapabilities keeps the capabilities that a unit gives this process from the programs that it starts, as fail2ban's
// client and the operator's alert. The process itself goes on with them. Programs that are linked with C cannot do
// this, which is no error: those are tests.
func KeepCapabilities() error {
	_, _, err := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0)
	if err != 0 && !errors.Is(err, syscall.ENOTSUP) {
		return fmt.Errorf("clear the ambient capabilities: %w", err)
	}
	return nil
}
