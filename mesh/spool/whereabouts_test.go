package spool_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banmesh/mesh/spool"
)

func TestASpoolIsFoundFromItsAgentsSocket(t *testing.T) {
	dir := t.TempDir()
	socket, other := filepath.Join(dir, "s"), filepath.Join(dir, "other")
	if _, err := spool.Of(socket); !errors.Is(err, spool.ErrUnknown) {
		t.Errorf("before any agent: %v, want ErrUnknown", err)
	}
	for _, data := range []string{"first", "second"} {
		s := spool.New(filepath.Join(dir, data, "spool"))
		if err := errors.Join(s.Prepare(-1), s.LeaveNote(socket)); err != nil {
			t.Fatal(err)
		}
		if got, err := spool.Of(socket); err != nil || got != s.Dir() {
			t.Errorf("got %q, %v; want %q", got, err, s.Dir())
		}
	}
	if _, err := spool.Of(other); !errors.Is(err, spool.ErrUnknown) {
		t.Errorf("another socket beside it: %v, want ErrUnknown", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".bm*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAFalseNoteNamesNoSpool(t *testing.T) {
	for name, plant := range map[string]func(t *testing.T, note, spool string) error{
		"a link": func(t *testing.T, note, spool string) error {
			return errors.Join(os.WriteFile(note+"x", []byte(spool+"\n"), 0o644), os.Symlink(note+"x", note))
		},
		"a file that others may write": func(t *testing.T, note, spool string) error {
			return errors.Join(os.WriteFile(note, []byte(spool+"\n"), 0o666), os.Chmod(note, 0o666))
		},
		"a relative path":        func(t *testing.T, note, _ string) error { return os.WriteFile(note, []byte("spool\n"), 0o644) },
		"an empty file":          func(t *testing.T, note, _ string) error { return os.WriteFile(note, nil, 0o644) },
		"a spool that is not":    func(t *testing.T, note, _ string) error { return os.WriteFile(note, []byte("/nowhere/spool"), 0o644) },
		"a directory":            func(t *testing.T, note, _ string) error { return os.Mkdir(note, 0o755) },
		"the note of a stranger": plantAsStranger,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			data := filepath.Join(dir, "spool")
			if err := os.Mkdir(data, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := plant(t, filepath.Join(dir, "s.spool"), data); err != nil {
				t.Fatal(err)
			}
			if got, err := spool.Of(filepath.Join(dir, "s")); err == nil || errors.Is(err, spool.ErrUnknown) {
				t.Errorf("got %q, %v; want a refusal", got, err)
			} else if !strings.Contains(err.Error(), "s.spool") {
				t.Errorf("%v does not name the file", err)
			}
		})
	}
}

func plantAsStranger(t *testing.T, note, spool string) error {
	if os.Getuid() != 0 {
		t.Skip("only root can make another user's file")
	}
	return errors.Join(os.WriteFile(note, []byte(spool+"\n"), 0o644), os.Chown(note, 45678, 45678))
}
