package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// keepSecrets keeps this process's memory, which may hold gossip keys and passwords, out of core files and from other processes
// of its user. The runtime answers SIGQUIT and SIGABRT with stacks alone; a core is written where GOTRACEBACK is crash. The
// kernel ignores the limit where it pipes cores to a program. What fails leaves the process as it was.
func keepSecrets() {
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	var core syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_CORE, &core) == nil {
		core.Cur = 0 // only the soft limit: the alert's command may need more
		_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &core)
	}
}
