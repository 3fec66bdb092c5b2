package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Root's fail2ban spools inside directories that belong to the agent's user, who can put a link in the place of any name
// there at any moment. So nothing is looked at by its path and then used by its path: a directory is opened once, judged
// by what was opened, and used through that.

const (
	openDir = os.O_RDONLY | syscall.O_DIRECTORY | syscall.O_NOFOLLOW
	// passDir opens a directory on the way, which need not be readable: Linux's O_PATH, which package syscall lacks.
	passDir = 0x200000 | syscall.O_DIRECTORY | syscall.O_NOFOLLOW
)

// noted says what the note of an agent promises of a spool.
type noted struct {
	by uint32 // owner of the note; any owner's spool will do where root wrote it
}

// open opens the directory. One that a note names must be there already: for a note nothing is made.
func (s *Spool) open() (*os.File, error) {
	if s.noted == nil {
		return openOrMake(s.dir)
	}
	dir, err := openWithoutLinks(s.dir)
	if err != nil {
		return nil, err
	}
	info, err := dir.Stat()
	if err == nil && s.noted.by != 0 && s.noted.by != owner(info) {
		err = fmt.Errorf("it belongs to the user %d, the note that names it to %d", owner(info), s.noted.by)
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// openWithoutLinks opens a directory whose path has no symbolic link anywhere. Step by step, and not by openat2, which
// the kernels of older routers lack.
func openWithoutLinks(path string) (*os.File, error) {
	if filepath.Clean(path) != path || !filepath.IsAbs(path) {
		return nil, errors.New("its path is not a plain one from /")
	}
	at, err := os.OpenFile("/", passDir, 0)
	if err != nil {
		return nil, err
	}
	names := strings.Split(path[1:], "/")
	for i, name := range names {
		flags := passDir
		if i == len(names)-1 {
			flags = openDir
		}
		next, err := os.OpenFile(below(at, name), flags, 0)
		at.Close()
		if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
			return nil, fmt.Errorf("/%s is a link or no directory", filepath.Join(names[:i+1]...))
		}
		if err != nil {
			return nil, reason(err)
		}
		at = next
	}
	return at, nil
}

// openOrMake opens a directory that root, or who runs this, named, and makes it and what lacks above it.
func openOrMake(path string) (*os.File, error) {
	dir, err := os.OpenFile(path, openDir, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	parent, err := os.OpenFile(filepath.Dir(path), os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(path) != path {
		parent, err = openOrMake(filepath.Dir(path))
	}
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	return makeIn(parent, filepath.Base(path))
}

// makeIn makes a directory in another. Made by root inside somebody's directory, it is that somebody's.
func makeIn(parent *os.File, name string) (*os.File, error) {
	made := os.Mkdir(below(parent, name), 0o700)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return nil, made
	}
	dir, err := os.OpenFile(below(parent, name), openDir, 0)
	if err != nil {
		return nil, err
	}
	if made == nil && os.Geteuid() == 0 {
		if err := giveTo(dir, parent); err != nil {
			dir.Close()
			return nil, err
		}
	}
	return dir, nil
}

// giveTo gives a directory that root has just made to the owner of the one that it is in. That owner may have put another
// of root's directories in its place since: one that holds anything is not the new one.
func giveTo(dir, parent *os.File) error {
	up, err := parent.Stat()
	if err != nil {
		return err
	}
	st, ok := up.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 {
		return nil
	}
	if names, err := dir.Readdirnames(1); !errors.Is(err, io.EOF) {
		return fmt.Errorf("it is another directory than the one just made, with %q in it (%v)", names, err)
	}
	if _, err := dir.Seek(0, io.SeekStart); err != nil { // the next reader reads all of it
		return err
	}
	return dir.Chown(int(st.Uid), int(st.Gid))
}

// below is a name in an open directory, whatever becomes of the directory's own name meanwhile.
func below(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
}
