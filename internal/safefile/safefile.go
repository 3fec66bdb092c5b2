// Package safefile writes files in directories where others may write too, as root does below /etc/banmesh: no link is
// followed, neither by the file nor by its directory, nothing is written into a file that somebody else has prepared, and a
// new file takes its name in one step.
//
// The agent's user may add files to /etc/banmesh, and could otherwise have root, who runs init, join and conductor trust, write to
// a file of its choice through a link. Replace works below an open directory, so that a directory that is exchanged meanwhile
// changes nothing. A reader sees the old file or the new one, never a part. ReadPrivate is for secrets: it refuses a file that
// others can read, and says what to run.
package safefile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxReplaced bounds what is read: a known_hosts of a large site.
const maxReplaced = 16 << 20

// Rights are those of a written file. A negative UID or GID leaves that to the system.
type Rights struct {
	Mode     fs.FileMode
	UID, GID int
}

// Of returns rights with a mode alone.
func Of(mode fs.FileMode) Rights { return Rights{Mode: mode, UID: -1, GID: -1} }

// Replace gives a file the content that change makes of what it holds, nil where there is none.
func Replace(path string, rights Rights, change func(old []byte) ([]byte, error)) error {
	dir, err := os.OpenFile(filepath.Dir(path), os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	// Below the open directory, whatever becomes of its name meanwhile.
	in := func(name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name) }
	named := func(err error) error { return fmt.Errorf("write %s: %w", path, reason(err)) }

	name := filepath.Base(path)
	old, err := Read(in(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return named(err)
	}
	content, err := change(old)
	if err != nil {
		return err
	}
	fresh := in("." + name + "." + rand.Text())
	// Closed to others until it has its owner; O_EXCL refuses a file that somebody has put there.
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, rights.Mode&0o600)
	if err != nil {
		return named(err)
	}
	// After the rename there is nothing of that name.
	defer os.Remove(fresh)
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return named(err)
	}
	if rights.UID >= 0 || rights.GID >= 0 {
		if err := f.Chown(rights.UID, rights.GID); err != nil {
			return named(err)
		}
	}
	if err := errors.Join(f.Chmod(rights.Mode), f.Sync(), f.Close()); err != nil {
		return named(err) // the old one stays: the new one may not be whole
	}
	if err := os.Rename(fresh, in(name)); err != nil {
		return named(err)
	}
	return nil
}

// Read reads a plain file of one name; a link or a pipe is refused.
func Read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, errors.New("it is a symbolic link: name the file itself")
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// Others may write in this directory: a hard link could have root read a file of its own elsewhere.
	if st, ok := info.Sys().(*syscall.Stat_t); !info.Mode().IsRegular() || ok && st.Nlink > 1 {
		return nil, errors.New("it is not a plain file with one name")
	}
	if info.Size() > maxReplaced {
		return nil, fmt.Errorf("it has %d bytes, too many", info.Size())
	}
	b := make([]byte, info.Size())
	n, err := f.ReadAt(b, 0)
	if n == len(b) {
		err = nil
	}
	return b[:n], err
}

// reason leaves out the path of an error: here it is one below /proc.
func reason(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}
