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

// Root's fail2ban puts calls into directories that belong to the agent's user, who can replace any name there by a link at
// any moment. So a path is never checked first and used afterwards: a directory is opened once, then checked and used through
// its file descriptor.

const (
	openDir = os.O_RDONLY | syscall.O_DIRECTORY | syscall.O_NOFOLLOW
	// passDir opens a directory on the way, which need not be readable: Linux's O_PATH, which package syscall lacks.
	passDir = 0x200000 | syscall.O_DIRECTORY | syscall.O_NOFOLLOW
)

// noted holds what an agent's note says about a spool.
type noted struct {
	by uint32 // owner of the note; if that is root, the spool may have any owner
}

// open opens the directory. It creates a missing one, unless the path comes from a note.
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

// openWithoutLinks opens a directory whose path has no symbolic link anywhere. It goes step by step, because the kernels of
// older routers lack openat2.
func openWithoutLinks(path string) (*os.File, error) {
	if filepath.Clean(path) != path || !filepath.IsAbs(path) {
		return nil, errors.New("its path is not a plain one from /")
	}
	// Each step is relative to an open directory, so that a rename above changes nothing.
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

// openOrMake opens a directory named by root or by the user of this process, and creates missing parts of its path.
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

// makeIn makes a directory in another. If root makes it in another user's directory, it gives it to that user.
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

// giveTo gives a directory that root has just made to the owner of its parent. The owner may meanwhile have put another of
// root's directories in its place: if it is not empty, it is not the new one.
func giveTo(dir, parent *os.File) error {
	up, err := parent.Stat()
	if err != nil {
		return err
	}
	st, ok := up.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 {
		return nil
	}
	// Chown of a directory that its owner swapped in would give away what root keeps there.
	if names, err := dir.Readdirnames(1); !errors.Is(err, io.EOF) {
		return fmt.Errorf("it is another directory than the one just made, with %q in it (%v)", names, err)
	}
	if _, err := dir.Seek(0, io.SeekStart); err != nil { // rewind for the next reader
		return err
	}
	return dir.Chown(int(st.Uid), int(st.Gid))
}

// below is the path of a name in an open directory, even if the directory is renamed meanwhile.
func below(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
}
