package server_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"banmesh/mesh/control/server"
)

func TestTheSocketIsForOwnerAndGroup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	old := syscall.Umask(0)
	ln, err := server.Listen(path, strconv.Itoa(os.Getegid()))
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Errorf("mode %v (%v), want a socket of 0660", info.Mode(), err)
	}
}

func TestASecondAgentIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := server.Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, err := server.Listen(path, ""); !errors.Is(err, server.ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want ErrInUse with the path", err)
	}
	if conn, err := net.Dial("unix", path); err != nil {
		t.Errorf("the first one lost its socket: %v", err)
	} else {
		conn.Close()
	}
}

// A living socket without our lock is somebody's as well.
func TestAForeignLivingSocketIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	foreign, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	if _, err := server.Listen(path, ""); !errors.Is(err, server.ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
}

func TestTheSocketOfADeadAgentIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	ln, err := server.Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestWhatIsNoSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Listen(path, ""); err == nil {
		t.Error("it was taken")
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("it now holds %q", b)
	}
}

// A link could lead the agent to another's socket, or have it made where somebody else wants it.
func TestLinksAndDirectoriesAreNoSockets(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	living, err := net.Listen("unix", elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	defer living.Close()
	for name, prepare := range map[string]func(path string) error{
		"a link to a living socket": func(p string) error { return os.Symlink(elsewhere, p) },
		"a link to nothing":         func(p string) error { return os.Symlink(elsewhere+"-not", p) },
		"a directory":               func(p string) error { return os.Mkdir(p, 0o700) },
		"a pipe":                    func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"a lock that is a link":     func(p string) error { return os.Symlink(elsewhere+"-lock", p+".lock") },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			if err := prepare(path); err != nil {
				t.Fatal(err)
			}
			if ln, err := server.Listen(path, ""); err == nil {
				ln.Close()
				t.Error("it was taken")
			} else if !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want an error with the path", err)
			}
		})
	}
	if _, err := os.Lstat(elsewhere + "-not"); err == nil {
		t.Error("a socket was made at the end of a link")
	}
	if _, err := os.Lstat(elsewhere + "-lock"); err == nil {
		t.Error("a lock was made at the end of a link")
	}
	if conn, err := net.Dial("unix", elsewhere); err != nil {
		t.Errorf("the socket elsewhere is gone: %v", err)
	} else {
		conn.Close()
	}
}

func TestListenSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ path, group, want string }{
		{filepath.Join(dir, "absent", "s"), "", "no such file or directory"},
		{filepath.Join(dir, strings.Repeat("x", 120)), "", "longer than 107 bytes"},
		{filepath.Join(dir, "s"), "no-such-group", "groupadd"},
	} {
		if ln, err := server.Listen(c.path, c.group); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: got %v, %v; want an error with %q", c.path, c.group, ln, err, c.want)
		}
	}
}

func TestOfManyAgentsAtOnceOneGetsTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	var wg sync.WaitGroup
	var got atomic.Int32
	for range 8 {
		wg.Go(func() {
			ln, err := server.Listen(path, "")
			switch {
			case err == nil:
				got.Add(1)
				t.Cleanup(func() { ln.Close() })
			case !errors.Is(err, server.ErrInUse):
				t.Errorf("got %v, want ErrInUse", err)
			}
		})
	}
	wg.Wait()
	if got.Load() != 1 {
		t.Errorf("%d got it, want 1", got.Load())
	}
}

func TestAPathOfAllTheRoomThereIsHoldsASocket(t *testing.T) {
	for _, base := range []string{"s", strings.Repeat("x", 20)} {
		dir := t.TempDir()
		dir = filepath.Join(dir, strings.Repeat("d", 107-len(dir)-len(base)-2))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, base)
		ln, err := server.Listen(path, "")
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		ln.Close()
		if left, _ := os.ReadDir(dir); len(left) != 1 || left[0].Name() != base+".lock" {
			t.Errorf("left behind: %v, want the lock alone", left)
		}
	}
}
