package spool_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banmesh/mesh/spool"
)

// What cannot be written is said, with the spool that it was meant for, and nothing half of it is left.
func TestACallThatCannotBeKeptIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below", "spool"), "/proc/banmesh/spool"} {
		s := spool.New(dir)
		if err := s.Put(ban(base, "203.0.113.1/32")); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("Put in %s: %v, want an error that names it", dir, err)
		}
		if err := s.Prepare(-1); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("Prepare of %s: %v, want an error that names it", dir, err)
		}
	}
	s := newSpool(t)
	huge := ban(base, "203.0.113.1/32")
	huge.Ban.Reason = strings.Repeat("a", 17<<20)
	if err := s.Put(huge); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a call of 17 MB: %v, want an error that says how many bytes can be kept", err)
	}
	if n, err := s.Len(); n != 0 || err != nil {
		t.Errorf("%d entries wait, %v; want none", n, err)
	}
}

func TestANoteThatCannotBeLeftIsSaid(t *testing.T) {
	dir := t.TempDir()
	s := spool.New(filepath.Join(dir, "spool"))
	socket := filepath.Join(dir, "banmesh.sock")
	if err := s.LeaveNote(socket); err == nil {
		t.Error("a note of a spool that is not there was left")
	}
	if err := s.Prepare(-1); err != nil {
		t.Fatal(err)
	}
	if err := s.LeaveNote(filepath.Join(dir, "none", "banmesh.sock")); err == nil {
		t.Error("a note was left in a directory that is not there")
	}
	if err := s.LeaveNote(socket); err != nil {
		t.Fatal(err)
	}
	made, err := filepath.Glob(socket + "*")
	if err != nil || len(made) != 1 {
		t.Fatalf("beside the socket there are %v, %v; want the note alone", made, err)
	}
	if err := os.Remove(made[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(made[0], "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.LeaveNote(socket); err == nil {
		t.Error("a note replaced a directory")
	}
	if rest, _ := filepath.Glob(filepath.Join(dir, ".bm*")); len(rest) > 0 {
		t.Errorf("%v is left", rest)
	}
}

func TestWhatIsSetAsideTwiceIsKeptTwice(t *testing.T) {
	s := newSpool(t)
	if err := s.Prepare(-1); err != nil {
		t.Fatal(err)
	}
	const junk = "0000000000000001-0123456789ab.json"
	for range 2 {
		if err := os.WriteFile(filepath.Join(s.Dir(), junk), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		drain(t, s)
	}
	if kept, err := os.ReadDir(filepath.Join(s.Dir(), "bad")); err != nil || len(kept) != 2 {
		t.Errorf("%d are kept, %v; want both", len(kept), err)
	}
}

// A bad entry that cannot be moved stays where it is, and that is said.
func TestAnEntryThatCannotBeSetAsideIsSaid(t *testing.T) {
	s := newSpool(t)
	put(t, s, ban(base, "203.0.113.1/32"))
	for name, text := range map[string]string{"bad": "", "0000000000000001-0123456789ab.json": "{"} {
		if err := os.WriteFile(filepath.Join(s.Dir(), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Drain(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "bad is not a directory") {
		t.Errorf("error = %v, want one that says that bad is not a directory", err)
	}
}
