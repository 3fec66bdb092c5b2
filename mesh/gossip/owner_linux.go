package gossip

import (
	"io/fs"
	"syscall"
)

// owner is the file's user and group, -1 if the system does not tell.
func owner(fi fs.FileInfo) (uid, gid int) {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid), int(st.Gid)
	}
	return -1, -1
}
