package spool_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"banmesh/internal/faults"
	"banmesh/internal/need"
	"banmesh/mesh/spool"
)

// openFiles are those of this process.
func openFiles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// A call is acknowledged only where every step that keeps it succeeded, in a group's spool too.
func TestACallIsNotAcknowledgedOnABadDisk(t *testing.T) {
	for _, shared := range []bool{false, true} {
		unclosed := 0
		faults.Each(t, func(try func(func()) string) {
			s := newSpool(t)
			if shared {
				if err := s.Prepare(os.Getgid()); err != nil {
					t.Fatal(err)
				}
			}
			before := openFiles(t)
			var err error
			failed := try(func() { err = s.Put(ban(base, "203.0.113.1/32")) })
			if failed == "" && err != nil || failed != "" && failed != "close" && failed != "stat" && !errors.Is(err, syscall.EIO) {
				t.Errorf("%s failed: Put says %v", failed, err)
			}
			if failed == "close" && err != nil {
				unclosed++
			}
			if after := openFiles(t); after > before && failed != "close" {
				t.Errorf("%s failed: %d files are open, %d before", failed, after, before)
			}
			if n, lenErr := s.Len(); err == nil && (n != 1 || lenErr != nil) {
				t.Errorf("%s failed: Put succeeded, and %d calls wait (%v)", failed, n, lenErr)
			}
			// What is left of a failed Put is no entry, and goes where it can.
			if scraps, _ := filepath.Glob(filepath.Join(s.Dir(), ".*")); len(scraps) > 0 && failed != "unlink" {
				t.Errorf("%s failed: %q is left", failed, scraps)
			}
		})
		if unclosed != 1 {
			t.Errorf("%d times a file that could not be closed was said, want 1: the entry's", unclosed)
		}
	}
}

// Root gives away what it makes, or says that it could not.
func TestACallOfRootIsNotAcknowledgedOnABadDisk(t *testing.T) {
	need.Root(t)
	const nobody = 65534
	faults.Each(t, func(try func(func()) string) {
		data := t.TempDir()
		if err := os.Chown(data, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		s := spool.New(filepath.Join(data, "spool"))
		var err error
		failed := try(func() { err = s.Put(ban(base, "203.0.113.1/32")) })
		if failed == "" && err != nil || failed != "" && failed != "close" && failed != "stat" && err == nil {
			t.Errorf("%s failed: Put says %v", failed, err)
		}
		if failed == "fchown" && !errors.Is(err, syscall.EIO) {
			t.Errorf("%s failed: Put says %v", failed, err)
		}
	})
}

func TestADirectoryThatCannotBePreparedIsSaid(t *testing.T) {
	faults.Each(t, func(try func(func()) string) {
		s := newSpool(t)
		before := openFiles(t)
		var err error
		failed := try(func() { err = s.Prepare(os.Getgid()) })
		if after := openFiles(t); after > before && failed != "close" {
			t.Errorf("%s failed: %d files are open, %d before", failed, after, before)
		}
		if failed == "" && err != nil || failed != "" && failed != "close" && !errors.Is(err, syscall.EIO) {
			t.Errorf("%s failed: got %v", failed, err)
		}
	})
}

// A disk that cannot be read takes no entry away and sets none aside: it is named, and the entry is applied later.
func TestABadDiskTakesNoCallAway(t *testing.T) {
	faults.Each(t, func(try func(func()) string) {
		s := newSpool(t)
		put(t, s, ban(base, "203.0.113.1/32"))
		before := openFiles(t)
		applied := 0
		var d spool.Drained
		var err error
		failed := try(func() {
			d, err = s.Drain(context.Background(), func(context.Context, spool.Entry) error { applied++; return nil })
		})
		said := errors.Is(errors.Join(append(d.Unread, err)...), syscall.EIO)
		if failed != "" && failed != "close" && !said || failed == "" && (err != nil || applied != 1) {
			t.Errorf("%s failed: got %+v, %v", failed, d, err)
		}
		if len(d.Aside) > 0 {
			t.Errorf("%s failed: a good entry was set aside: %v", failed, d.Aside)
		}
		if after := openFiles(t); after > before && failed != "close" {
			t.Errorf("%s failed: %d files are open, %d before", failed, after, before)
		}
		if n, _ := s.Len(); applied+n == 0 {
			t.Errorf("%s failed: applied %d times, %d wait", failed, applied, n)
		}
	})
}

func TestABadEntryOnABadDiskIsSaid(t *testing.T) {
	faults.Each(t, func(try func(func()) string) {
		s := newSpool(t)
		if err := s.Prepare(-1); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.Dir(), "junk"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		var d spool.Drained
		var err error
		failed := try(func() {
			d, err = s.Drain(context.Background(), func(context.Context, spool.Entry) error { return nil })
		})
		if err == nil && len(d.Aside) != 1 {
			t.Errorf("%s failed: got %+v", failed, d)
		}
		if _, gone := os.Lstat(filepath.Join(s.Dir(), "junk")); err == nil && gone == nil {
			t.Errorf("%s failed: the drain succeeded, and the bad entry is where it was", failed)
		}
	})
}

// A note and the spool that it names are used whole or not at all.
func TestANoteOnABadDiskNamesNothing(t *testing.T) {
	type place struct {
		name string
		find func(string) (*spool.Spool, error)
	}
	for _, p := range []place{{"its own", spool.Of}, {"the quick one", spool.QuickOf}} {
		t.Run(p.name, func(t *testing.T) {
			faults.Each(t, func(try func(func()) string) {
				s := newSpool(t)
				socket := filepath.Join(t.TempDir(), "banmesh.sock")
				for _, s := range []*spool.Spool{s, spool.Quick(socket)} {
					if err := s.Prepare(-1); err != nil {
						t.Fatal(err)
					}
				}
				before := openFiles(t)
				if err := s.LeaveNote(socket); err != nil {
					t.Fatal(err)
				}
				var found *spool.Spool
				var err error
				failed := try(func() { found, err = p.find(socket) })
				if err == nil && found == nil || failed == "" && err != nil || failed != "" && failed != "close" && !errors.Is(err, syscall.EIO) {
					t.Errorf("%s failed: got %v, %v", failed, found, err)
				}
				if after := openFiles(t); after > before && failed != "close" {
					t.Errorf("%s failed: %d files are open, %d before", failed, after, before)
				}
			})
		})
	}
}
