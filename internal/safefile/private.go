package safefile

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"banmesh/internal/shell"
)

// Access is who may read a file.
type Access int

// The values of Access, the strictest first.
const (
	OwnerOnly     Access = iota
	OwnerAndGroup        // the group may read, not write: the agent's group reads the keyring so
	Anyone               // the file holds no secret
)

// ReadPrivate reads a file of at most maxBytes bytes and refuses one that others than allow can access; what names the content
// in errors. The FileInfo is of what was read. Every error names the file. ReadPrivate does not block on a pipe.
func ReadPrivate(path string, allow Access, maxBytes int, what string) (fs.FileInfo, []byte, error) {
	// Links are followed, unlike in Read: what counts is who may read the file that was opened.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("%s is not a regular file", path)
	case allow == OwnerOnly && info.Mode().Perm()&0o077 != 0:
		return nil, nil, fmt.Errorf("%s has mode %#o, others can read it; run: chmod 600 %s", path, info.Mode().Perm(), shell.Quote(path))
	case allow == OwnerAndGroup && info.Mode().Perm()&0o027 != 0:
		return nil, nil, fmt.Errorf("%s has mode %#o, others can read or change it; run: chmod g-w,o= %s", path, info.Mode().Perm(), shell.Quote(path))
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(maxBytes)+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("%s cannot be read: %w", path, err)
	case len(b) > maxBytes:
		return nil, nil, fmt.Errorf("%s has more than %d bytes, too many for %s", path, maxBytes, what)
	}
	return info, b, nil
}
