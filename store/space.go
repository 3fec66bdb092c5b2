package store

import "syscall"

// ScarceSpace is too little room beside a store: as it grows it asks for more than this at once, in bytes.
const ScarceSpace = 8 << 20

// FreeSpace returns how many bytes a user without root's reserve may still write on the disk of a directory. It may hang with
// that disk.
func FreeSpace(dir string) (bytes int64, ok bool) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, false
	}
	return int64(fs.Bavail) * int64(fs.Bsize), true
}
