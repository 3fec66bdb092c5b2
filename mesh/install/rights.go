package install

import (
	"os"
	"syscall"

	"banmesh/internal/safefile"
)

// rightsOf returns the owner and mode of a file.
func rightsOf(path string) (safefile.Rights, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return safefile.Rights{}, err
	}
	rights := safefile.Of(info.Mode().Perm())
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		rights.UID, rights.GID = int(st.Uid), int(st.Gid)
	}
	return rights, nil
}
