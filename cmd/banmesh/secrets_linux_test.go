package main

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMemoryStaysOutOfCoreFiles(t *testing.T) {
	was, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(was), 0, 0, 0)
		_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &limit)
	})
	keepSecrets()
	if got, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || got != 0 {
		t.Errorf("dumpable %d, %v: a core or a debugger of the same user shows the keys", got, err)
	}
	var now syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &now); err != nil || now.Cur != 0 || now.Max != limit.Max {
		t.Errorf("limit of cores %+v, %v: want 0 of %d", now, err, limit.Max)
	}
}
