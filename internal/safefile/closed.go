package safefile

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Closed is to whom a file with a secret has to be closed.
type Closed int

// The values of Closed.
const (
	ToAll    Closed = iota // to everybody but its owner
	ToOthers               // to everybody but its owner and its group, which may not write: the agent's group reads the keyring so
	ToNobody               // it holds no secret
)

// ReadClosed reads a file with a secret, of at most most bytes; what names the secret in errors. The FileInfo is of what was
// read. Every error names the file. A pipe in the file's place blocks nobody.
func ReadClosed(path string, to Closed, most int, what string) (fs.FileInfo, []byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("%s cannot be examined: %w", path, err)
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("%s is not a regular file", path)
	case to == ToAll && info.Mode().Perm()&0o077 != 0:
		return nil, nil, fmt.Errorf("%s has mode %#o, others can read it; run: chmod 600 %s", path, info.Mode().Perm(), path)
	case to == ToOthers && info.Mode().Perm()&0o027 != 0:
		return nil, nil, fmt.Errorf("%s has mode %#o, others can read or change it; run: chmod g-w,o= %s", path, info.Mode().Perm(), path)
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("%s cannot be read: %w", path, err)
	case len(b) > most:
		return nil, nil, fmt.Errorf("%s has more than %d bytes, too many for %s", path, most, what)
	}
	return info, b, nil
}
