package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/mesh/config"
)

func TestFilesAreReadAsTheAgentsUser(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	who := &syscall.Credential{Uid: 45678, Gid: 45678}
	file := func(name string, mode os.FileMode, uid int) string {
		path := filepath.Join(dir, name)
		write(t, path, "x")
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, uid, uid); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := readableAs(who, file("own", 0o600, 45678)); err != nil {
		t.Errorf("the agent's own: %v", err)
	}
	roots := file("roots", 0o600, 0)
	if err := readableAs(who, roots); err == nil || !strings.Contains(err.Error(), "chown -h 45678 "+roots) {
		t.Errorf("root's: %v, want what to do", err)
	}
	// The advice, taken.
	if err := os.Chown(roots, 45678, -1); err != nil {
		t.Fatal(err)
	}
	if err := readableAs(who, roots); err != nil {
		t.Errorf("after chown: %v", err)
	}
	if err := readableAs(nil, filepath.Join(dir, "absent")); !os.IsNotExist(err) {
		t.Errorf("absent: %v", err)
	}
}

// Root follows these steps in /etc/banmesh, where the agent's user may have put a link.
func TestTheStepsThatRootIsToldFollowNoLink(t *testing.T) {
	steps := map[string]string{"keygen": keygenCommand(&console{}).Description}
	for _, path := range []string{"../../README.md", "../../examples/README.md"} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		steps[path] = string(b)
	}
	dir := t.TempDir()
	cfg := config.Default()
	cfg.Gossip.Keyring, cfg.HTTP.Listen, cfg.HTTP.TokenFile = "/etc/banmesh/keyring.json", "127.0.0.1:1", "/etc/banmesh/token"
	cfg.Commit.Driver, cfg.Commit.PasswordFile = "rest", "/etc/banmesh/password"
	for _, f := range files(&cfg) {
		steps[f.Key] = f.Make
	}
	for where, text := range steps {
		if bad := regexp.MustCompile(`> ?/etc/banmesh/\S*|chown [^-\n]*/etc/banmesh/\S*`).FindAllString(text, -1); len(bad) > 0 {
			t.Errorf("%s: %q", where, bad)
		}
	}
	shadow, link := filepath.Join(dir, "shadow"), filepath.Join(dir, "keyring.json")
	write(t, shadow, "root's")
	if err := os.Symlink(shadow, link); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", "-c", "echo new | "+installLine(&cfg, link)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	old, err := os.ReadFile(shadow)
	fresh, err2 := os.ReadFile(link)
	if err := errors.Join(err, err2); err != nil || string(fresh) != "new\n" || strings.Contains(string(old), "new") {
		t.Errorf("%v: the file holds %q, what the link named %q", err, fresh, old)
	}
}

func TestAPipeInPlaceOfAFileHoldsUpNoCheck(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "keyring.json")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	checked := make(chan error, 1)
	go func() { checked <- readableAs(nil, pipe) }()
	select {
	case err := <-checked:
		if err == nil || !strings.Contains(err.Error(), "not a plain file") {
			t.Errorf("got %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the check waits for the other end of the pipe")
	}
}
