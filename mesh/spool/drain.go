package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"banmesh/internal/shell"
)

// Drained says what a drain did.
type Drained struct {
	Applied int     // entries applied and removed
	Aside   []error // why each bad entry was set aside
	Unread  []error // why each was left in place: the disk or its permissions are at fault, not the entry
}

// errUnreadable is wrapped by errors about entries that may be good but cannot be read.
var errUnreadable = errors.New("cannot be read")

// Drain passes the entries to apply in order. It removes an entry that apply has accepted, durably. It moves an entry to the
// directory "bad" if it cannot be parsed, is not a plain file of ours, or is refused by apply (ErrRefused). Any other error
// of apply ends the drain and leaves the entry in place. After a crash an entry may be passed again: applying it twice must
// do no harm. A second Drain waits for the first, until ctx ends.
func (s *Spool) Drain(ctx context.Context, apply func(context.Context, Entry) error) (Drained, error) {
	return Drain(ctx, apply, s)
}

// place is one entry of a spool.
type place struct {
	*Spool
	name string
}

// Drain is Spool.Drain for several spools, in the order in which their entries were made.
func Drain(ctx context.Context, apply func(context.Context, Entry) error, spools ...*Spool) (Drained, error) {
	var d Drained
	var all []place
	for _, s := range spools {
		select {
		// Taken for all spools before the first entry: two drains that interleave would apply an unban before its ban.
		case s.draining <- struct{}{}:
			defer func() { <-s.draining }()
		case <-ctx.Done():
			return d, ctx.Err()
		}
		names, err := s.names()
		if err == nil && len(names) > 0 {
			err = s.checkDir()
		}
		if err != nil {
			return d, err
		}
		for _, name := range names {
			all = append(all, place{s, name})
		}
	}
	slices.SortStableFunc(all, func(a, b place) int { return strings.Compare(a.name, b.name) })
	for _, p := range all {
		if err := ctx.Err(); err != nil {
			return d, err
		}
		if err := p.drain(ctx, apply, &d); err != nil {
			return d, err
		}
	}
	return d, nil
}

// drain applies one entry.
func (p place) drain(ctx context.Context, apply func(context.Context, Entry) error, d *Drained) error {
	if p.name == asideDir {
		return nil
	}
	if strings.HasPrefix(p.name, tempPrefix) {
		p.sweep(p.name)
		return nil
	}
	e, err := p.read(p.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if errors.Is(err, errUnreadable) {
		d.Unread = append(d.Unread, fmt.Errorf("spool %s: %s %w", p.dir, p.name, err))
		return nil
	}
	if err == nil {
		err = apply(ctx, e)
		if err != nil && !errors.Is(err, ErrRefused) {
			return fmt.Errorf("spool %s: apply %s: %w", p.dir, p.name, err)
		}
	}
	if err == nil {
		d.Applied++
		if err := os.Remove(filepath.Join(p.dir, p.name)); err != nil {
			// The drain ends here, and status shows that the spool is not drained. The next one applies the entry again, which
			// changes nothing.
			return fmt.Errorf("spool: %w", err)
		}
		return nil
	}
	d.Aside = append(d.Aside, fmt.Errorf("spool %s: %s set aside in %s: %w", p.dir, p.name, asideDir, err))
	if err := p.setAside(p.name); err != nil {
		return fmt.Errorf("spool %s: set aside %s: %w", p.dir, p.name, err)
	}
	return nil
}

// names returns the names in the directory.
func (s *Spool) names() ([]string, error) {
	dir, err := os.OpenFile(s.dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	return names, nil
}

// checkDir refuses a directory in which anybody could leave calls for the agent.
func (s *Spool) checkDir() error {
	info, err := os.Lstat(s.dir)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("spool %s: everybody may write there, so nothing in it is believed: chmod o-w %s", s.dir, shell.Quote(s.dir))
	}
	return nil
}

// read opens a file in a directory that others may write to, as root: it believes nothing of the name and
// checks the file that it has open.
func (s *Spool) read(name string) (Entry, error) {
	if !isEntry(name) {
		return Entry{}, errors.New("not a file of ours")
	}
	// Do not follow a link, nor wait for the other end of a pipe. Check the file that was opened.
	f, err := os.OpenFile(filepath.Join(s.dir, name), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Entry{}, openError(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Entry{}, fmt.Errorf("%w: %w", errUnreadable, reason(err))
	}
	if !info.Mode().IsRegular() {
		return Entry{}, fmt.Errorf("not a plain file but %s", info.Mode().Type())
	}
	// A hard link could name any file of the same disk that root can read.
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
		return Entry{}, errors.New("the file has a second name elsewhere")
	}
	if info.Mode().Perm()&0o002 != 0 {
		return Entry{}, errors.New("everybody may write to it")
	}
	if info.Size() > maxSize {
		return Entry{}, fmt.Errorf("%d bytes: more than an entry has", info.Size())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return Entry{}, fmt.Errorf("%w: %w", errUnreadable, reason(err))
	}
	return decode(b)
}

// openError distinguishes a link or a pipe, which is never an entry, from an entry that cannot be opened.
func openError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return err
	case errors.Is(err, syscall.ELOOP):
		return errors.New("not a plain file but a symbolic link")
	case errors.Is(err, syscall.ENXIO):
		return errors.New("not a plain file but a socket")
	}
	return fmt.Errorf("%w: %w", errUnreadable, reason(err))
}

// sweep removes a temporary file that is too old to be still in use.
func (s *Spool) sweep(name string) {
	path := filepath.Join(s.dir, name)
	if info, err := os.Lstat(path); err == nil && time.Since(info.ModTime()) > staleTemp {
		os.Remove(path)
	}
}

// setAside moves an entry away for somebody to look at, and removes the oldest such entries if there are too many.
func (s *Spool) setAside(name string) error {
	aside := filepath.Join(s.dir, asideDir)
	if err := os.Mkdir(aside, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return reason(err)
	}
	if info, err := os.Lstat(aside); err != nil || !info.IsDir() {
		return fmt.Errorf("%s is not a directory", aside)
	}
	kept, err := os.ReadDir(aside)
	if err != nil {
		return reason(err)
	}
	// The names sort by time, so that the first are the oldest.
	for i := 0; i <= len(kept)-maxAside; i++ {
		os.RemoveAll(filepath.Join(aside, kept[i].Name()))
	}
	to := filepath.Join(aside, name)
	if _, err := os.Lstat(to); err == nil {
		to = filepath.Join(aside, name+"."+fmt.Sprint(time.Now().UnixNano()))
	}
	return os.Rename(filepath.Join(s.dir, name), to)
}
