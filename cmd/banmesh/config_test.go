package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"banmesh/internal/need"
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
	if err := readableAs(who, roots); err == nil || !strings.Contains(err.Error(), "chown 45678 "+roots) {
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
