package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// maxSocketPath is the room for a path in Linux's sockaddr_un, without the final zero (unix(7)).
const maxSocketPath = 107

// socketMode lets only the owner and the group talk to the agent.
const socketMode = 0o660

// ErrInUse says that a running agent already listens on the socket.
var ErrInUse = errors.New("another agent is running")

// Listen creates the control socket at path with mode 0660, and gives it to the group unless that is "". It replaces the
// socket of a dead agent. A running agent gives ErrInUse, and anything other than a socket is refused and left alone. Closing
// the listener removes the socket.
func Listen(path, group string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("socket %s: the path is longer than %d bytes, the most that a unix socket may have", path, maxSocketPath)
	}
	gid, err := Group(group)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	lock, err := lockSocket(path)
	if err != nil {
		return nil, err
	}
	ln, err := listenLocked(path, gid)
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &listener{UnixListener: ln, path: path, lock: lock}, nil
}

// lockSocket takes the lock that decides between two agents starting at the same moment; looking at the socket cannot. The
// kernel releases it when the process ends, however it ends.
func lockSocket(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("socket %s: lock: %w", path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, inUse(path)
		}
		return nil, fmt.Errorf("socket %s: lock: %w", path, err)
	}
	return f, nil
}

func inUse(path string) error {
	return fmt.Errorf("socket %s: %w: stop it first, or choose another with --socket", path, ErrInUse)
}

// listenLocked replaces only a socket that nobody answers on. Called with the lock beside the socket held, so
// no other agent does the same meanwhile.
func listenLocked(path string, gid int) (*net.UnixListener, error) {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("socket %s: there is something else of that name, not a socket: move it away, or choose another with --socket", path)
	default:
		conn, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			conn.Close()
			return nil, inUse(path)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("socket %s: cannot tell whether an agent lives there: %w", path, err)
		}
	}
	// Create it in a directory that only we can enter, then rename it, so that nobody connects before it has its mode.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".bm")
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	defer os.RemoveAll(dir)
	tmp := filepath.Join(dir, "s")
	bound := tmp
	if len(bound) > maxSocketPath {
		// unix(7)'s way around the length limit: a path through the open directory.
		open, err := os.Open(dir)
		if err != nil {
			return nil, fmt.Errorf("socket %s: %w", path, err)
		}
		defer open.Close()
		bound = fmt.Sprintf("/proc/self/fd/%d/s", open.Fd())
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: bound, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false)
	if err := placeSocket(tmp, path, gid); err != nil {
		ln.Close()
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	return ln, nil
}

// placeSocket gives the socket its mode and group before its name, so it is never open to more than it should
// be.
func placeSocket(tmp, path string, gid int) error {
	if err := os.Chmod(tmp, socketMode); err != nil {
		return err
	}
	if gid >= 0 {
		if err := os.Lchown(tmp, -1, gid); err != nil {
			return err
		}
	}
	return os.Rename(tmp, path)
}

// Group returns the number of the group that may use the socket, by name or number; -1 for "", which changes nothing.
func Group(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	if gid, err := strconv.Atoi(name); err == nil && gid >= 0 {
		return gid, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("socket_group: %w: create it (groupadd --system %s) or leave socket_group empty", err, name)
	}
	return strconv.Atoi(g.Gid)
}

// listener removes its socket and releases the lock when it is closed.
type listener struct {
	*net.UnixListener
	path string
	lock *os.File
	once sync.Once
}

func (l *listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		// Remove the socket first: a new agent that finds the lock free must not lose its own socket to us.
		os.Remove(l.path)
		err = l.UnixListener.Close()
		l.lock.Close()
	})
	return err
}
