package mesh

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"banmesh/internal/shell"
	"banmesh/mesh/config"
)

// RightsFlaw is a file or directory of the agent that other users of this router can
// change or read.
type RightsFlaw struct {
	What string // what is wrong, with the path and the rights
	Why  string // what somebody could do with it
	Fix  string // the command that fixes it
}

func (f RightsFlaw) Error() string { return f.What + ": " + f.Fix }

// Flaws looks at where the agent keeps things: the data directory, the store,
// the spool and the directory of the socket. uid is whose they may be beside
// root's; negative leaves the owners out. What does not exist has no flaw.
func Flaws(cfg *config.Config, uid int) []RightsFlaw {
	var out []RightsFlaw
	look := func(path, what string, wantDir bool, why string) {
		if f := flaw(cfg, path, what, wantDir, uid, why); f != nil {
			out = append(out, *f)
		}
	}
	look(cfg.DataDir, "data directory", true, "Who can put files there can make the agent ban anybody.")
	look(cfg.StorePath(), "store", false, "Who can change it can ban and unban everywhere.")
	look(cfg.SpoolDir(), "spool", true, "Who can put files there can make the agent ban anybody.")
	look(filepath.Dir(cfg.Socket), "directory of the socket", true, "Who can replace the socket takes fail2ban's bans in the agent's place.")
	return out
}

// flaw is what is wrong with one of them, nil for nothing. Directories may be
// links, which belong to who made the directory above; files may not.
func flaw(cfg *config.Config, path, what string, wantDir bool, uid int, why string) *RightsFlaw {
	lstat := os.Lstat
	if wantDir {
		lstat = os.Stat
	}
	info, err := lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return &RightsFlaw{fmt.Sprintf("%s cannot be looked at: %v", what, err), why, cmp.Or(fileFix(err, cfg), "ls -ld "+shell.Quote(path))}
	case wantDir && !info.IsDir():
		return &RightsFlaw{fmt.Sprintf("%s %s is not a directory", what, path), why, "move it away"}
	case !wantDir && !info.Mode().IsRegular():
		return &RightsFlaw{fmt.Sprintf("%s %s is no plain file but %s", what, path, info.Mode().Type()), why, "move it away"}
	}
	// In a sticky directory, such as /tmp, others can add names but not replace ours.
	others := info.Mode().Perm()&0o002 != 0 && !(wantDir && info.Mode()&fs.ModeSticky != 0)
	// A spool that a group shares is meant to be written by it.
	group := info.Mode().Perm()&0o020 != 0 && !wantDir
	if others || group {
		return &RightsFlaw{fmt.Sprintf("%s %s has mode %04o, others can change it", what, path, info.Mode().Perm()), why, "chmod go-w " + shell.Quote(path)}
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && uid >= 0 && st.Uid != 0 && int(st.Uid) != uid {
		return &RightsFlaw{fmt.Sprintf("%s %s belongs to user %d, neither root nor the agent's own (%d)", what, path, st.Uid, uid), why, fmt.Sprintf("chown -h %d %s", uid, shell.Quote(path))}
	}
	return nil
}

// checkRights refuses to start with what others can change, and warns of
// secrets that others can read: the drivers refuse to use those, and say so
// again when they are needed.
func checkRights(cfg *config.Config, log *slog.Logger) error {
	if found := Flaws(cfg, os.Geteuid()); len(found) > 0 {
		return found[0]
	}
	k := &cfg.Commit
	for _, s := range []struct {
		key, path string
		used      bool
	}{
		{"commit.key", k.Key, k.Driver == "netconf"}, {"commit.password_file", k.PasswordFile, k.Driver == "rest"},
		{"commit.token_file", k.TokenFile, k.Driver == "rest"},
	} {
		if !s.used || s.path == "" {
			continue
		}
		if info, err := os.Stat(s.path); err == nil && info.Mode().Perm()&0o077 != 0 {
			log.Warn("others can read a secret", "key", s.key, "file", s.path, "mode", fmt.Sprintf("%04o", info.Mode().Perm()), "fix", "chmod 600 "+shell.Quote(s.path))
		}
	}
	return nil
}
