package spool_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"banmesh/internal/need"
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
		if got, err := spool.Of(socket); err != nil || got.Dir() != s.Dir() {
			t.Errorf("got %v, %v; want %q", got, err, s.Dir())
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
		"a relative path": func(t *testing.T, note, _ string) error { return os.WriteFile(note, []byte("spool\n"), 0o644) },
		"an empty file":   func(t *testing.T, note, _ string) error { return os.WriteFile(note, nil, 0o644) },
		"a spool that is not": func(t *testing.T, note, spool string) error {
			return os.WriteFile(note, []byte(filepath.Join(spool, "nowhere", "spool")), 0o644)
		},
		"a path with a link in it": func(t *testing.T, note, spool string) error {
			link := filepath.Join(filepath.Dir(note), "link")
			return errors.Join(os.Symlink(filepath.Dir(spool), link), os.WriteFile(note, []byte(filepath.Join(link, "spool")+"\n"), 0o644))
		},
		"a path that climbs": func(t *testing.T, note, spool string) error {
			return os.WriteFile(note, []byte(spool+"/../spool\n"), 0o644)
		},
		"a file with a second name": func(t *testing.T, note, spool string) error {
			return errors.Join(os.WriteFile(note+"x", []byte(spool+"\n"), 0o644), os.Link(note+"x", note))
		},
		"a pipe":                 func(t *testing.T, note, _ string) error { return syscall.Mkfifo(note, 0o644) },
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
				t.Errorf("got %v, %v; want a refusal", got, err)
			} else if !strings.Contains(err.Error(), "s.spool") {
				t.Errorf("%v does not name the file", err)
			}
			// Where the path alone is wrong, the spool beside the socket may be used.
			if strings.Contains(name, "path that climbs") || strings.Contains(name, "path with a link") || name == "a spool that is not" {
				return
			}
			if err := spool.Quick(filepath.Join(dir, "s")).Prepare(-1); err != nil {
				t.Fatal(err)
			}
			if got, err := spool.QuickOf(filepath.Join(dir, "s")); err == nil || errors.Is(err, spool.ErrUnknown) {
				t.Errorf("the quick one: got %v, %v; want a refusal", got, err)
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

// The agent's user can change all that a note names after it was read: a link anywhere on the way, the directory gone, or
// one of root's in its place. Root then makes nothing and gives nothing away.
func TestWhatANoteNamesIsNeitherMadeNorGivenAway(t *testing.T) {
	for name, turn := range map[string]func(middle, other string) error{
		"gone":          func(middle, _ string) error { return os.RemoveAll(middle) },
		"only its name": func(middle, _ string) error { return os.Remove(filepath.Join(middle, "spool")) },
		"a link on the way": func(middle, other string) error {
			return errors.Join(os.RemoveAll(middle), os.Symlink(other, middle))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			middle, other := filepath.Join(dir, "middle"), filepath.Join(dir, "other")
			s := spool.New(filepath.Join(middle, "spool"))
			if err := errors.Join(s.Prepare(-1), s.LeaveNote(filepath.Join(dir, "s")), os.MkdirAll(filepath.Join(other, "spool"), 0o700)); err != nil {
				t.Fatal(err)
			}
			noted, err := spool.Of(filepath.Join(dir, "s"))
			if err != nil {
				t.Fatal(err)
			}
			if err := turn(middle, other); err != nil {
				t.Fatal(err)
			}
			if err := noted.Put(ban(time.Now(), "203.0.113.1/32")); err == nil {
				t.Error("the call was kept where the note did not lead when it was read")
			}
			if left, _ := filepath.Glob(filepath.Join(other, "spool", "*")); len(left) > 0 {
				t.Errorf("written elsewhere: %v", left)
			}
			if _, err := os.Lstat(filepath.Join(middle, "spool")); err == nil && name != "a link on the way" {
				t.Error("the spool was made")
			}
		})
	}
}

func TestASpoolThatChangedItsOwnerAfterTheNoteWasReadIsRefused(t *testing.T) {
	need.Root(t)
	const agent = 45678
	dir := t.TempDir()
	s := spool.New(filepath.Join(dir, "spool"))
	socket := filepath.Join(dir, "s")
	if err := errors.Join(s.Prepare(-1), s.LeaveNote(socket), os.Chown(s.Dir(), agent, agent), os.Chown(socket+".spool", agent, agent)); err != nil {
		t.Fatal(err)
	}
	noted, err := spool.Of(socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := noted.Put(ban(time.Now(), "203.0.113.1/32")); err != nil {
		t.Errorf("the agent's own: %v", err)
	}
	if err := os.Chown(s.Dir(), 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := noted.Put(ban(time.Now(), "203.0.113.2/32")); err == nil || !strings.Contains(err.Error(), "belongs to the user 0") {
		t.Errorf("root's: %v, want a refusal", err)
	}
}

// A data directory that is a link, as on a machine with a disk of its own for it, is found all the same.
func TestANoteNamesItsSpoolWithoutLinks(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "data")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "disk"), 0o755), os.Symlink("disk", link)); err != nil {
		t.Fatal(err)
	}
	s := spool.New(filepath.Join(link, "spool"))
	if err := errors.Join(s.Prepare(-1), s.LeaveNote(filepath.Join(dir, "s"))); err != nil {
		t.Fatal(err)
	}
	got, err := spool.Of(filepath.Join(dir, "s"))
	if err != nil || got.Dir() != filepath.Join(dir, "disk", "spool") {
		t.Fatalf("got %v, %v", got, err)
	}
	put(t, got, ban(time.Now(), "203.0.113.1/32"))
	if n, err := s.Len(); n != 1 || err != nil {
		t.Errorf("%d wait, %v; want one", n, err)
	}
}

// The spool in memory is found by the same note, and is nobody else's.
func TestTheQuickSpoolIsItsAgents(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	quick, slow := spool.Quick(socket), spool.New(filepath.Join(dir, "data"))
	if err := errors.Join(slow.Prepare(-1), slow.LeaveNote(socket)); err != nil {
		t.Fatal(err)
	}
	if _, err := spool.QuickOf(socket); !errors.Is(err, spool.ErrUnknown) {
		t.Errorf("of an agent that has none: %v, want ErrUnknown", err)
	}
	if err := quick.Prepare(-1); err != nil {
		t.Fatal(err)
	}
	got, err := spool.QuickOf(socket)
	if err != nil {
		t.Fatal(err)
	}
	// Given in one and the other, they come in their own order.
	put(t, slow, ban(base.Add(time.Second), "203.0.113.2/32"))
	put(t, got, ban(base, "203.0.113.1/32"))
	put(t, got, ban(base.Add(2*time.Second), "203.0.113.3/32"))
	var order []string
	d, err := spool.Drain(context.Background(), func(_ context.Context, e spool.Entry) error {
		order = append(order, e.Ban.Prefixes[0].String())
		return nil
	}, slow, quick)
	if want := []string{"203.0.113.1/32", "203.0.113.2/32", "203.0.113.3/32"}; err != nil || d.Applied != 3 || !slices.Equal(order, want) {
		t.Errorf("drained %v, %+v, %v; want %v", order, d, err, want)
	}
	// A link in its place is followed nowhere.
	if err := errors.Join(os.Remove(quick.Dir()), os.Symlink(slow.Dir(), quick.Dir())); err != nil {
		t.Fatal(err)
	}
	if _, err := spool.QuickOf(socket); err == nil || !strings.Contains(err.Error(), "is a link") {
		t.Errorf("a link in its place: %v", err)
	}
}

// Who waits for a drain that hangs can give up.
func TestADrainThatHangsHoldsUpNobodyForGood(t *testing.T) {
	s := newSpool(t)
	put(t, s, ban(base, "203.0.113.1/32"))
	hangs, let := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		_, err := s.Drain(context.Background(), func(context.Context, spool.Entry) error { close(hangs); <-let; return nil })
		done <- err
	}()
	<-hangs
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Drain(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("the second drain: %v", err)
	}
	close(let)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
