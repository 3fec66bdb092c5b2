package enforce

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// KeepCapabilities keeps this process's capabilities from the programs it starts, such as fail2ban's client and the operator's
// alert command. The process itself keeps them. A program linked with C cannot do this; only tests are, so that is not an
// error.
func KeepCapabilities() error {
	_, _, err := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0)
	if err != 0 && !errors.Is(err, syscall.ENOTSUP) {
		return fmt.Errorf("clear the ambient capabilities: %w", err)
	}
	return nil
}
