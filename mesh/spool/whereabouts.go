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

// noteSuffix names the file beside a control socket that names the spool of its agent.
const noteSuffix = ".spool"

// quickSuffix names the directory beside a control socket for calls that must be kept at once.
const quickSuffix = ".calls"

// maxNote bounds a note, which holds one path.
const maxNote = 4096

// ErrUnknown says that no agent has left a note beside a socket.
var ErrUnknown = errors.New("no agent of that socket has said where its spool is")

// LeaveNote writes beside the control socket where this spool is, for commands that find no agent there. The note stays when
// the agent stops.
func (s *Spool) LeaveNote(socket string) error {
	// Resolve links, because readers of the note follow none.
	dir, err := filepath.EvalSymlinks(s.dir)
	if err != nil {
		return fmt.Errorf("say where the spool is: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(socket), ".bm")
	if err != nil {
		return fmt.Errorf("say where the spool is: %w", err)
	}
	// After the rename there is nothing of that name any more.
	defer os.Remove(f.Name())
	defer f.Close()
	// Every user of the socket must be able to read it.
	if err = f.Chmod(0o644); err == nil {
		_, err = f.WriteString(dir + "\n")
	}
	if err == nil {
		err = os.Rename(f.Name(), socket+noteSuffix)
	}
	if err != nil {
		return fmt.Errorf("say where the spool is: %w", err)
	}
	return nil
}

// Of returns the spool of a control socket's agent, even while that agent is stopped, or ErrUnknown without a note. A note
// counts only if it belongs to root or to the owner of the spool that it names. Otherwise a user who can write beside the
// socket could divert calls to a place where nobody applies them.
func Of(socket string) (*Spool, error) {
	dir, by, err := readNote(socket)
	if err != nil {
		return nil, err
	}
	s, err := noteNames(dir, by)
	if err != nil {
		return nil, fmt.Errorf("%s names the spool %s, which cannot be used: %w: start the agent once, or remove the note", socket+noteSuffix, dir, err)
	}
	return s, nil
}

// Quick returns the spool beside an agent's control socket, for the agent itself. It is usually in /run, in memory, and takes
// calls while the disk of the other spool hangs: nothing ends a write to such a disk, not even killing the process. Its
// entries do not survive a reboot, but fail2ban then repeats its bans.
func Quick(socket string) *Spool { return New(socket + quickSuffix) }

// QuickOf returns the same spool for a caller with a call for the agent, or ErrUnknown if the agent has not created it. As
// with Of, it must belong to the owner of the agent's note.
func QuickOf(socket string) (*Spool, error) {
	_, by, err := readNote(socket)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(socket)) // the caller names this path; below it no link is followed
	if err != nil {
		return nil, err
	}
	s, err := noteNames(filepath.Join(dir, filepath.Base(socket)+quickSuffix), by)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrUnknown
	}
	return s, err
}

// noteNames returns the spool at a path from a note of that user.
func noteNames(path string, by uint32) (*Spool, error) {
	s := New(path)
	s.noted = &noted{by: by}
	dir, err := s.open()
	if err != nil {
		return nil, err
	}
	return s, dir.Close()
}

// readNote returns the content of the note beside a socket, and its owner.
func readNote(socket string) (dir string, by uint32, err error) {
	f, err := os.OpenFile(socket+noteSuffix, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", 0, ErrUnknown
	}
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	note, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	refuse := fmt.Errorf("%s is not the note of an agent: remove it", f.Name())
	// Root's note is trusted whatever it names, so it must not be a hard link to another of root's files.
	if st, ok := note.Sys().(*syscall.Stat_t); !note.Mode().IsRegular() || note.Mode().Perm()&0o022 != 0 || ok && st.Nlink > 1 {
		return "", 0, refuse
	}
	b, err := io.ReadAll(io.LimitReader(f, maxNote))
	if err != nil {
		return "", 0, err
	}
	if dir = strings.TrimSuffix(string(b), "\n"); !filepath.IsAbs(dir) {
		return "", 0, refuse
	}
	return dir, owner(note), nil
}

func owner(info fs.FileInfo) uint32 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return 0
}
