package mesh

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"banmesh/internal/shell"
	"banmesh/mesh/config"
)

// cannotListen is an error of listening with what helps against it; key names the address in the configuration.
// An agent that cannot listen does not start, and this line is all that its operator sees.
func cannotListen(err error, key string) error {
	var op *net.OpError
	if !errors.As(err, &op) || op.Addr == nil {
		return err
	}
	host, port, _ := net.SplitHostPort(op.Addr.String())
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: `ss -lnptu sport = :%s` names the program that has it: stop it, or set %s to another port", err, port, key)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: no interface has %s, `ip address` lists those that they have: correct %s", err, host, key)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: a port below 1024 needs root's right: set %s to a higher one", err, key)
	}
	return err
}

// CannotUse is an error of the file system with what helps against it. An agent that
// does not start answers no question: its one line is all that an operator sees.
func CannotUse(err error, cfg *config.Config) error {
	if fix := fileFix(err, cfg); fix != "" {
		return fmt.Errorf("%w: %s", err, fix)
	}
	return err
}

// fileFix returns the command that removes what a file operation failed for, "" if none is known. It is given
// the agent's own user, since the operator who reads it is another one. Paths are quoted: they come from the
// configuration.
func fileFix(err error, cfg *config.Config) string {
	var at *fs.PathError
	if !errors.As(err, &at) || !filepath.IsAbs(at.Path) {
		return ""
	}
	dir := filepath.Dir(at.Path)
	ours := fmt.Sprintf("-o %d -g %d", os.Geteuid(), os.Getegid())
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Sprintf("make room on its disk (`df %s`), then start the agent again", shell.Quote(dir))
	case errors.Is(err, syscall.EROFS):
		return fmt.Sprintf("make it writable again, after a look at dmesg: `mount -o remount,rw \"$(findmnt -n -o TARGET --target %s)\"`", shell.Quote(dir))
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return "move it away, or choose another path in the configuration"
	case errors.Is(err, fs.ErrNotExist):
		missing := obstacle(at.Path)
		if _, err := os.Lstat(missing); err == nil { // the directory is there, and install would change whose it is
			return "put it there, or correct the path"
		}
		return fmt.Sprintf("`install -d %s -m 0755 %s`", ours, shell.Quote(missing))
	case errors.Is(err, fs.ErrPermission):
		return rightsFix(at, cfg, ours)
	}
	return ""
}

// rightsFix says how the agent's user gets at a path.
func rightsFix(at *fs.PathError, cfg *config.Config, ours string) string {
	what := obstacle(at.Path)
	info, err := os.Lstat(what)
	inside := func(dir string) bool { return what == dir || strings.HasPrefix(what, dir+"/") }
	switch {
	case err != nil || os.Geteuid() == 0:
		return "`namei -l " + shell.Quote(at.Path) + "` shows whose it is"
	case at.Op == "mkdir":
		return fmt.Sprintf("`install -d %s -m 0700 %s`", ours, shell.Quote(at.Path))
	case !info.IsDir(), inside(cfg.DataDir):
		return fmt.Sprintf("the agent runs as user %d: `chown -h %[1]d:%d %s`", os.Geteuid(), os.Getegid(), shell.Quote(what))
	case at.Path == cfg.Socket || at.Path == cfg.Socket+".lock":
		// What else lies in the directory must not become the agent's.
		own := filepath.Join(what, "banmesh")
		return fmt.Sprintf("the agent runs as user %d: `install -d %s -m 0755 %s`, and `socket: %s/banmesh.sock` in the configuration", os.Geteuid(), ours, shell.Quote(own), own)
	}
	return fmt.Sprintf("the agent runs as user %d, `namei -l %s` shows where it may not go on", os.Geteuid(), shell.Quote(at.Path))
}

// obstacle is where the way to a path ends: the path itself, or the directory above it
// that is not there, that may not be entered, or in which it cannot be made.
func obstacle(path string) string {
	for dir := filepath.Dir(path); ; path, dir = dir, filepath.Dir(dir) {
		switch _, err := os.Lstat(path); {
		case err == nil, dir == path:
			return path
		case errors.Is(err, fs.ErrNotExist):
			if _, err := os.Lstat(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
				return dir
			}
		}
	}
}
