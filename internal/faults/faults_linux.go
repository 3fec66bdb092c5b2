// Package faults shows what a program does when the kernel refuses one of its system calls: a disk that fails, a directory
// that goes away. It needs no such disk, and no seam in the program: the kernel asks it before each call of one thread.
package faults

import (
	"flag"
	"runtime"
	"strconv"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// calls are the system calls with which Go programs use files.
var calls = map[int32]string{
	unix.SYS_OPENAT: "open", unix.SYS_READ: "read", unix.SYS_WRITE: "write", unix.SYS_CLOSE: "close", unix.SYS_LSEEK: "lseek",
	unix.SYS_FSTAT: "fstat", unix.SYS_NEWFSTATAT: "stat", unix.SYS_GETDENTS64: "getdents", unix.SYS_FSYNC: "fsync",
	unix.SYS_FCHMOD: "fchmod", unix.SYS_FCHOWN: "fchown", unix.SYS_MKDIRAT: "mkdir", unix.SYS_RENAMEAT: "rename", unix.SYS_UNLINKAT: "unlink",
}

// request and answer are struct seccomp_notif and seccomp_notif_resp of linux/seccomp.h.
type request struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type answer struct {
	id    uint64
	val   int64
	error int32
	flags uint32
}

// Each calls run again and again, and run calls try once, with what is to be tried. The first time the first system call of f
// fails with EIO, then the second, and so on; try returns which it was, and at last, where f makes no more, "".
func Each(t testing.TB, run func(try func(f func()) (failed string))) {
	t.Helper()
	for n, more := 0, true; more; n++ {
		run(func(f func()) (failed string) {
			failed, err := nth(n, f)
			if err != nil {
				t.Fatal(err)
			}
			more = failed != ""
			return failed
		})
		if n == 1000 {
			t.Fatal("a thousand system calls and no end")
		}
	}
}

// nth runs f while its nth system call fails, and returns which that was.
func nth(n int, f func()) (failed string, err error) {
	listener, done := make(chan int, 1), make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread ends with the goroutine, and its filter with it.
		runtime.LockOSThread()
		fd, e := filter()
		if err = e; err != nil {
			close(listener)
			return
		}
		listener <- fd
		f()
	}()
	fd, ok := <-listener
	if !ok {
		<-done
		return "", err
	}
	defer unix.Close(fd)
	for i := 0; ; {
		wait := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		var r request
		ready, _ := unix.Poll(wait, 10)
		if ready > 0 {
			if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&r))); e != 0 {
				ready = 0 // the thread has ended, or a signal came between: the kernel asks again
			}
		}
		if ready <= 0 {
			select {
			case <-done:
				return failed, nil
			default:
				continue
			}
		}
		a := answer{id: r.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		if r.writesTestLog() {
			unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&a)))
			continue
		}
		if i == n {
			failed, a = calls[r.nr], answer{id: r.id, error: -int32(unix.EIO)}
		}
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&a))); e == 0 {
			i++
		} else if i == n {
			failed = "" // a signal here too
		}
	}
}

// writesTestLog reports whether a call writes go test's own log of the files that a test has looked at. It is written now and
// then, by whichever thread has filled its buffer, and is no call of the program.
func (r *request) writesTestLog() bool {
	log := flag.Lookup("test.testlogfile")
	if r.nr != unix.SYS_WRITE || log == nil {
		return false
	}
	var to [unix.PathMax]byte // by the system call itself: package os would write that log
	n, err := unix.Readlink("/proc/self/fd/"+strconv.FormatUint(r.args[0], 10), to[:])
	return err == nil && string(to[:n]) == log.Value.String()
}

// filter has the kernel ask before each of the calls of this thread, and returns where it asks.
func filter() (fd int, err error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}} // the number of the call
	for nr := range calls {
		program = append(program,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 6, K: uint32(nr)},
			// What the runtime writes by itself must go through, because nobody can run to answer for it meanwhile: what it says
			// of a panic, and the eight bytes that wake a thread waiting for the network.
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16}, // the first argument
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, Jf: 3, K: uint32(unix.Stderr)},
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 32}, // the third
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: 8},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	r, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
		uintptr(unsafe.Pointer(&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})))
	if e != 0 {
		return 0, e
	}
	return int(r), nil
}
