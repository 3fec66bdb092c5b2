package mesh

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banmesh/mesh/config"
	"banmesh/mesh/control/server"
)

// places is a configuration whose directories and store exist and are well.
func places(t *testing.T) *config.Config {
	t.Helper()
	c := config.Default()
	c.DataDir = filepath.Join(t.TempDir(), "data")
	c.Socket = filepath.Join(t.TempDir(), "run", "s")
	for _, dir := range []string{c.SpoolDir(), filepath.Dir(c.Socket)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(c.StorePath(), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &c
}

func TestWhatOthersCanChangeIsRefusedAtTheStart(t *testing.T) {
	discard := slog.New(slog.DiscardHandler)
	if err := checkRights(places(t), discard); err != nil {
		t.Fatalf("nothing is wrong, and it says %v", err)
	}
	mode := func(path func(*config.Config) string, mode os.FileMode) func(*config.Config) error {
		return func(c *config.Config) error { return os.Chmod(path(c), mode) }
	}
	data := func(c *config.Config) string { return c.DataDir }
	run := func(c *config.Config) string { return filepath.Dir(c.Socket) }
	for _, c := range []struct {
		name  string
		spoil func(*config.Config) error
		want  string // "" for: it is well
	}{
		{"a data directory for all", mode(data, 0o777), "chmod go-w "},
		{"a data directory for all to look at", mode(data, 0o755), ""},
		{"a sticky data directory", mode(data, 0o777|os.ModeSticky), ""},
		{"a store for all", mode((*config.Config).StorePath, 0o666), "chmod go-w "},
		{"a store for the group", mode((*config.Config).StorePath, 0o660), "chmod go-w "},
		{"a store to look at", mode((*config.Config).StorePath, 0o644), ""},
		{"a spool for all", mode((*config.Config).SpoolDir, 0o777), "chmod go-w "},
		{"a spool for the group", mode((*config.Config).SpoolDir, 0o770), ""},
		{"a directory of the socket for all", mode(run, 0o777), "chmod go-w "},
		{"a store that is a link", func(c *config.Config) error {
			if err := os.Rename(c.StorePath(), c.DataDir+"/elsewhere"); err != nil {
				return err
			}
			return os.Symlink(c.DataDir+"/elsewhere", c.StorePath())
		}, "no plain file"},
		{"a store that is a directory", func(c *config.Config) error {
			if err := os.Remove(c.StorePath()); err != nil {
				return err
			}
			return os.Mkdir(c.StorePath(), 0o700)
		}, "no plain file"},
		{"a spool that is a file", func(c *config.Config) error {
			if err := os.Remove(c.SpoolDir()); err != nil {
				return err
			}
			return os.WriteFile(c.SpoolDir(), nil, 0o600)
		}, "is not a directory"},
		{"nothing yet", func(c *config.Config) error { return os.RemoveAll(c.DataDir) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := places(t)
			if err := c.spoil(cfg); err != nil {
				t.Fatal(err)
			}
			err := checkRights(cfg, discard)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestWhatBelongsToSomebodyElseIsAFlaw(t *testing.T) {
	cfg := places(t)
	if os.Geteuid() == 0 { // root's own is well for everybody
		if err := os.Chown(cfg.StorePath(), 4711, -1); err != nil {
			t.Fatal(err)
		}
	}
	found := Flaws(cfg, 4712)
	if len(found) == 0 || !strings.Contains(found[len(found)-1].Error(), "chown -h 4712") {
		t.Errorf("got %v, want a word about the owner", found)
	}
	if found := Flaws(cfg, -1); len(found) > 0 {
		t.Errorf("who asks about no owner hears %v", found)
	}
}

func TestAnOpenSecretIsSaidAtTheStart(t *testing.T) {
	cfg := places(t)
	secret := filepath.Join(cfg.DataDir, "key")
	if err := os.WriteFile(secret, []byte("MARKER"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		driver string
		mode   os.FileMode
		want   bool
	}{{"netconf", 0o644, true}, {"netconf", 0o600, false}, {"none", 0o644, false}} {
		if err := os.Chmod(secret, c.mode); err != nil {
			t.Fatal(err)
		}
		cfg.Commit.Driver, cfg.Commit.Key = c.driver, secret
		var log bytes.Buffer
		if err := checkRights(cfg, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "chmod 600 "+secret); got != c.want || strings.Contains(log.String(), "MARKER") {
			t.Errorf("driver %s, mode %04o: logged %q", c.driver, c.mode, log.String())
		}
	}
}

// TestAgentRefusesADataDirectoryForAll: the check stands in the way of a start.
func TestAgentRefusesADataDirectoryForAll(t *testing.T) {
	cfg := places(t)
	os.Remove(cfg.StorePath())
	cfg.Name, cfg.Gossip.Bind, cfg.Gossip.Profile = "router1", "127.0.0.1:0", "local"
	if err := os.Chmod(cfg.DataDir, 0o777); err != nil {
		t.Fatal(err)
	}
	a, err := Open(t.Context(), *cfg, Options{Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		a.close()
		t.Fatal("it started")
	}
	if !strings.Contains(err.Error(), cfg.DataDir) || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("got %v", err)
	}
	if _, err := server.Listen(cfg.Socket, ""); err != nil {
		t.Errorf("it kept the socket: %v", err)
	}
}
