package world

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ramDisk is where a simulation's files are best kept: in memory.
const ramDisk = "/dev/shm"

// Dir makes a directory for a world's files, on a disk in memory where there is one. A process that is killed cannot remove
// its own, so that the next one does: each holds a lock on its directory as long as it lives.
func Dir() (dir string, remove func(), err error) {
	base := ramDisk
	if fi, err := os.Stat(base); err != nil || !fi.IsDir() {
		base = os.TempDir()
	}
	const prefix = "banmesh-world-"
	old, _ := filepath.Glob(filepath.Join(base, prefix+"*"))
	for _, name := range old {
		if f, err := lock(name); err == nil {
			os.RemoveAll(name)
			f.Close()
		}
	}
	for {
		if dir, err = os.MkdirTemp(base, prefix); err != nil {
			return "", nil, err
		}
		f, err := lock(dir)
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist):
			continue // another process has taken it for an old one
		case err != nil:
			os.Remove(dir)
			return "", nil, err
		}
		// It may have done so before the lock.
		if _, err := os.Stat(dir); err != nil {
			f.Close()
			continue
		}
		return dir, func() {
			os.RemoveAll(dir)
			f.Close()
		}, nil
	}
}

// lock locks a directory; syscall.EWOULDBLOCK means that another process has it.
func lock(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}
