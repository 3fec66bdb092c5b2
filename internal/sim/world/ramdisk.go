package world

import (
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
		if f := lock(name); f != nil {
			os.RemoveAll(name)
			f.Close()
		}
	}
	for {
		if dir, err = os.MkdirTemp(base, prefix); err != nil {
			return "", nil, err
		}
		// Another process may have taken it for an old one before it was locked.
		f := lock(dir)
		if f == nil {
			continue
		}
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

// lock locks a directory; nil where that fails, as while another process has it.
func lock(dir string) *os.File {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil
	}
	return f
}
