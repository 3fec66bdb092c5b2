// Package spool keeps calls that reached no agent, one file each in a directory, until the agent has applied them.
//
// Put writes an entry to the disk before it returns; a command or hook calls it when no agent answers. The agent drains its
// spools in the order of the entries' times. An entry stays until it was applied durably, so it may be applied twice. Entries
// that can never be applied are set aside.
//
// An agent has two spools: one on the disk, named in a note beside the control socket, and one in memory (Quick) for a disk
// that hangs. The package starts no goroutines. Several processes may put at once, and draining lets one drain run at a time.
// Root uses spools that belong to the agent's user, so directories are opened without links and files are used through them.
package spool

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	// A fail2ban that bans ten times a second fills it in half an hour without an agent.
	maxEntries = 20_000   // files in one spool
	maxAside   = 1_000    // files set aside
	maxSize    = 16 << 20 // bytes of an entry; a bulk call fits
	asideDir   = "bad"
	suffix     = ".json"
	tempPrefix = ".new-"
	// staleTemp is the age from which a temporary file belongs to a killed command, and not to a running one.
	staleTemp = time.Hour
)

// ErrFull says that the spool holds as many entries as it may.
var ErrFull = errors.New("the spool is full")

// ErrRefused is wrapped by Drain's callback if an entry can never be applied: it is set aside, and the drain goes on. Any
// other error stops the drain, and the entry is tried again.
var ErrRefused = errors.New("entry refused")

// Spool is one directory of waiting calls. Several processes may put calls into it at once, but only one drains it.
type Spool struct {
	dir string
	max int
	// noted is set if an agent's note names the directory. The agent's user chose it then, so root follows it only where that
	// user cannot redirect it.
	noted *noted
	// draining lets one drain run at a time. It is a channel, so that waiting for it can be given up when the disk hangs.
	draining chan struct{}
}

// New returns the Spool in dir. The first Put or Prepare creates the directory.
func New(dir string) *Spool {
	return &Spool{dir: dir, max: maxEntries, draining: make(chan struct{}, 1)}
}

// Dir returns the directory.
func (s *Spool) Dir() string { return s.dir }

// Prepare creates the directory with mode 0700, or for a group (gid ≥ 0, the one that may use the control socket) 2770.
func (s *Spool) Prepare(gid int) error {
	dir, err := openOrMake(s.dir)
	if err != nil {
		return fmt.Errorf("spool %s: %w", s.dir, reason(err))
	}
	defer dir.Close()
	mode := fs.FileMode(0o700)
	if gid >= 0 {
		if err := dir.Chown(-1, gid); err != nil {
			return fmt.Errorf("spool %s: %w", s.dir, reason(err))
		}
		mode = 0o770 | fs.ModeSetgid
	}
	if err := dir.Chmod(mode); err != nil {
		return fmt.Errorf("spool %s: %w", s.dir, reason(err))
	}
	return nil
}

// Put adds an entry, which is on the disk when Put returns. Its Time decides its place in the order.
func (s *Spool) Put(e Entry) error {
	b, err := e.encode()
	if err != nil {
		return fmt.Errorf("spool %s: %w", s.dir, err)
	}
	if err := s.put(name(e.Time), b); err != nil {
		return fmt.Errorf("spool %s: %w", s.dir, reason(err))
	}
	return nil
}

// put returns when the entry is on disk: content, name and directory are synced. Nothing of it is followed by
// name, since the directory belongs to the agent's user and root may be the caller.
func (s *Spool) put(name string, b []byte) error {
	dir, err := s.open()
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	if len(names) >= s.max {
		return fmt.Errorf("%w: %d calls wait for an agent", ErrFull, len(names))
	}
	info, err := dir.Stat()
	if err != nil {
		return err
	}
	// Go through the open directory: its owner, who may not be root, can replace the name meanwhile.
	tmp := below(dir, tempPrefix+name)
	// Under another name first: a drain must never see half an entry.
	if err := writeFile(tmp, b, info); err != nil {
		os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, below(dir, name)); err != nil {
		os.Remove(tmp)
		return err
	}
	// Without it a power loss could take the name of a file whose content is safe.
	return dir.Sync()
}

// Len counts the waiting entries. A spool that was never used has none.
func (s *Spool) Len() (int, error) {
	names, err := s.names()
	n := 0
	for _, name := range names {
		if isEntry(name) {
			n++
		}
	}
	return n, err
}

// writeFile writes a new file with the directory's owner: root's fail2ban writes for an agent that may not run as root.
func writeFile(path string, b []byte, dir fs.FileInfo) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if st, ok := dir.Sys().(*syscall.Stat_t); ok {
		if os.Geteuid() == 0 && st.Uid != 0 {
			if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
				return err
			}
		}
		// A shared spool is drained by an agent that may be another user than the one that puts; both are in the group.
		if dir.Mode().Perm()&0o020 != 0 {
			if err := f.Chmod(0o660); err != nil {
				return err
			}
		}
	}
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// reason drops the path from an error whose text will name the spool anyway.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// name returns a file name that sorts by time. Its random part separates entries of the same moment.
func name(t time.Time) string {
	var r [6]byte
	rand.Read(r[:])
	return fmt.Sprintf("%016x-%s%s", max(0, t.UnixNano()), hex.EncodeToString(r[:]), suffix)
}

// isEntry reports whether a name has the form of those that name returns.
func isEntry(name string) bool {
	base, ok := strings.CutSuffix(name, suffix)
	if !ok || len(base) != 16+1+12 || base[16] != '-' {
		return false
	}
	for i := range len(base) {
		if c := base[i]; i != 16 && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
