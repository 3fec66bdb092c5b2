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

// noteSuffix names the file beside a control socket that says where the spool of its agent is.
const noteSuffix = ".spool"

// maxNote bounds a note: it holds one path.
const maxNote = 4096

// ErrUnknown says that no agent has left a note beside a socket.
var ErrUnknown = errors.New("no agent of that socket has said where its spool is")

// LeaveNote writes beside the control socket where this spool is, for the commands that will find nobody there. It stays
// when the agent stops.
func (s *Spool) LeaveNote(socket string) error {
	f, err := os.CreateTemp(filepath.Dir(socket), ".bm")
	if err != nil {
		return fmt.Errorf("say where the spool is: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	// Whoever may use the socket must be able to read it.
	if err = f.Chmod(0o644); err == nil {
		_, err = f.WriteString(s.dir + "\n")
	}
	if err == nil {
		err = os.Rename(f.Name(), socket+noteSuffix)
	}
	if err != nil {
		return fmt.Errorf("say where the spool is: %w", err)
	}
	return nil
}

// Of returns the directory of the spool that belongs to the agent of a control socket, also while that agent does not run;
// ErrUnknown where none has left a note. A note counts only where it belongs to the owner of the spool that it names, or
// to root: otherwise a user who can write beside the socket could have a call written where nobody applies it.
func Of(socket string) (string, error) {
	f, err := os.OpenFile(socket+noteSuffix, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", ErrUnknown
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	note, err := f.Stat()
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxNote))
	if err != nil {
		return "", err
	}
	dir := strings.TrimSuffix(string(b), "\n")
	if !note.Mode().IsRegular() || note.Mode().Perm()&0o022 != 0 || !filepath.IsAbs(dir) {
		return "", fmt.Errorf("%s is not the note of an agent: remove it", f.Name())
	}
	spool, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("%s names a spool that cannot be used: %w", f.Name(), err)
	}
	if by := owner(note); by != 0 && by != owner(spool) {
		return "", fmt.Errorf("%s belongs to the user %d, the spool %s that it names to %d: remove it", f.Name(), by, dir, owner(spool))
	}
	return dir, nil
}

func owner(info fs.FileInfo) uint32 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return 0
}
