package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banmesh/internal/safefile"
	"banmesh/internal/sim/conductorsim"
)

// conductors runs two of one address in turn, with a host key each.
func sim(t *testing.T, dir, listen string) (addr string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- conductorsim.Run(ctx, conductorsim.Options{Listen: listen, Dir: dir, Style: conductorsim.Style52, Stdout: in})
	}()
	b := make([]byte, 4096)
	n, err := out.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", b[:n])
	for _, word := range strings.Fields(string(b[:n])) {
		if strings.HasPrefix(word, "127.0.0.1:") {
			addr = strings.TrimRight(word, ",.;")
		}
	}
	return addr, func() { cancel(); <-done }
}

func TestTrustReplacesAChangedKeyAndSaysSo(t *testing.T) {
	dir := t.TempDir()
	addr, stop := sim(t, filepath.Join(dir, "one"), "127.0.0.1:0")
	known := filepath.Join(dir, "known_hosts")
	write(t, known, "other.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJv")
	trust := func() string {
		t.Helper()
		var out strings.Builder
		c := newConsole(strings.NewReader(""), &out, &strings.Builder{}, func(string) string { return "" })
		if err := c.execute(t.Context(), []string{"conductor", "trust", addr, "--known-hosts", known, "--yes"}); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if said := trust(); !strings.Contains(said, "added to "+known) || strings.Contains(said, "CHANGED") {
		t.Errorf("the first key: %s", said)
	}
	if said := trust(); !strings.Contains(said, "it is already in "+known) {
		t.Errorf("the same key: %s", said)
	}
	first, _ := os.ReadFile(known)
	stop()
	_, stop = sim(t, filepath.Join(dir, "two"), addr)
	defer stop()
	if said := trust(); !strings.Contains(said, "THE KEY HAS CHANGED") || !strings.Contains(said, "replaced in "+known) || strings.Count(said, "SHA256:") != 2 {
		t.Errorf("another key: %s", said)
	}
	second, _ := os.ReadFile(known)
	if strings.Count(string(second), "\n") != 2 || !strings.Contains(string(second), "other.example") || string(second) == string(first) {
		t.Errorf("known_hosts was %q and is %q; want one key for each host", first, second)
	}
}

func TestAWrittenFileFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "shadow")
	for name, plant := range map[string]func(path string) error{
		"a link":        func(path string) error { return os.Symlink(target, path) },
		"a second name": func(path string) error { return os.Link(target, path) },
		"a directory's link": func(path string) error {
			return os.Symlink(dir, filepath.Dir(path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, target, "secret")
			path := filepath.Join(t.TempDir(), "sub", "known_hosts")
			if name != "a directory's link" {
				if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
			} else {
				path = filepath.Join(filepath.Dir(path), "shadow")
			}
			if err := plant(path); err != nil {
				t.Fatal(err)
			}
			err := safefile.Replace(path, safefile.Of(0o644), func([]byte) ([]byte, error) { return []byte("ours"), nil })
			if b, _ := os.ReadFile(target); err == nil && string(b) != "secret" || string(b) != "secret" {
				t.Errorf("%v: the other file holds %q", err, b)
			}
			if name != "a link" && err == nil && name != "a second name" {
				t.Error("no error")
			}
		})
	}
}
