package gossip

import (
	"context"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/internal/need"
)

func TestLoadKeyringSaysHowToFix(t *testing.T) {
	key := NewKey()
	tests := []struct {
		name, text string
		mode       os.FileMode
		want       string // in the error; "" for none
	}{
		{"good", `["` + key + `"]`, 0o600, ""},
		{"good for a group", `["` + key + `","` + NewKey() + `"]`, 0o640, ""},
		{"world-readable", `["` + key + `"]`, 0o644, "chmod 640"},
		{"group-writable", `["` + key + `"]`, 0o660, "chmod 640"},
		{"a bare key", key, 0o600, "JSON array"},
		{"empty list", `[]`, 0o600, "banmesh keygen"},
		{"not base64", `["?"]`, 0o600, "key 1"},
		{"short key", `["` + key + `","YWJj"]`, 0o600, "key 2"},
		{"empty", ``, 0o600, "JSON array"},
	}
	for _, tt := range tests {
		path := filepath.Join(t.TempDir(), "keyring.json")
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		keys, err := LoadKeyring(path)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want == "" && base64.StdEncoding.EncodeToString(keys[0]) != key:
			t.Errorf("%s: the first key is another", tt.name)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path)):
			t.Errorf("%s: error %v, want one with %q and the path", tt.name, err, tt.want)
		case err != nil && strings.Contains(err.Error(), key):
			t.Errorf("%s: the error shows the key: %v", tt.name, err)
		}
	}
	missing := filepath.Join(t.TempDir(), "none.json")
	if _, err := LoadKeyring(missing); err == nil || !strings.Contains(err.Error(), "keygen") {
		t.Errorf("missing file: %v", err)
	}
}

func nameOf(t *testing.T, key string) string {
	t.Helper()
	raw, err := ParseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return KeyName(raw)
}

// Who may write in the directory of the keyring could prepare a file that the
// keys are then written into.
func TestKeysAreWrittenIntoNoFileThatWasThere(t *testing.T) {
	dir := t.TempDir()
	path, trap := filepath.Join(dir, "keyring.json"), filepath.Join(dir, "trap")
	if err := os.WriteFile(trap, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(trap, path+".new"); err != nil {
		t.Fatal(err)
	}
	if err := saveKeyring(path, [][]byte{testKey}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(trap); err != nil || len(got) > 0 {
		t.Errorf("the prepared file holds %d bytes, %v", len(got), err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("the keyring is %v, %v; want a file of 0600", info.Mode(), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 3 {
		t.Errorf("left behind: %v", left)
	}
}

func TestKeysAreRotatedWhileBansFlow(t *testing.T) {
	simulate(t, 4, lan(), func(fl *fleet) {
		old, fresh := base64.StdEncoding.EncodeToString(testKey), NewKey()
		path := filepath.Join(t.TempDir(), "keyring.json")
		if err := saveKeyring(path, [][]byte{testKey}); err != nil {
			t.Fatal(err)
		}
		nd := fl.nodes[3]
		fl.stop(nd)
		if err := fl.start(nd, func(c *Config) { c.Keys, c.KeyringFile = nil, path }); err != nil {
			t.Fatal(err)
		}
		fl.wait(time.Minute, "all heard", func() bool {
			return !slices.ContainsFunc(fl.nodes, func(o *node) bool { return len(*o.mesh.table.proven.Load()) != 3 })
		})
		ctx := context.Background()
		m := fl.nodes[0].mesh
		if err := m.UseKey(ctx, fresh, false); err == nil {
			t.Error("a key that nobody has is used")
		}
		if err := m.InstallKey(ctx, fresh); err != nil {
			t.Fatal(err)
		}
		fl.nodes[1].ban("1")
		if err := m.RemoveKey(ctx, old, false); err == nil {
			t.Error("the key in use was removed")
		}
		if err := m.UseKey(ctx, nameOf(t, NewKey()), false); err == nil {
			t.Error("a name that no key has was taken")
		}
		if err := m.UseKey(ctx, nameOf(t, fresh), false); err != nil {
			t.Fatal(err)
		}
		fl.nodes[2].ban("2")
		if err := m.RemoveKey(ctx, nameOf(t, old), false); err != nil {
			t.Fatal(err)
		}
		fl.nodes[3].ban("3")
		fl.wait(5*time.Second, "bans everywhere", fl.all(3))
		list, err := m.ListKeys(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != 1 || list[0].Key != nameOf(t, fresh) || len(list[0].Members) != 4 || len(list[0].Using) != 4 {
			t.Errorf("keys afterwards: %+v, want only the new one at all 4", list)
		}
		if keys, err := LoadKeyring(path); err != nil || len(keys) != 1 || base64.StdEncoding.EncodeToString(keys[0]) != fresh {
			t.Errorf("the keyring file holds %d keys, %v; want the new one", len(keys), err)
		}
		if w := m.KeyNews(); w != "" {
			t.Errorf("the member whose operator changed the keys warns of it: %q", w)
		}
		if w := nd.mesh.KeyNews(); !strings.Contains(w, "3 times") || !strings.Contains(w, "remove of "+nameOf(t, old)+" by "+fl.nodes[0].name) ||
			!strings.Contains(w, "use of "+nameOf(t, fresh)) || !strings.Contains(w, "install of "+nameOf(t, fresh)) {
			t.Errorf("another member says of it: %q", w)
		}
		time.Sleep(keyNewsFor + time.Minute)
		if w := nd.mesh.KeyNews(); w != "" {
			t.Errorf("an hour later: %q", w)
		}
		for _, o := range fl.nodes {
			if n := o.mesh.Stats().Dropped["no key"]; n != 0 {
				t.Errorf("%s dropped %d packets for want of a key", o.name, n)
			}
		}
	})
}

func TestAKeyIsNotUsedWhileAMemberCannotConfirm(t *testing.T) {
	simulate(t, 3, lan(), func(fl *fleet) {
		ctx := context.Background()
		m := fl.nodes[0].mesh
		fresh := NewKey()
		if err := m.InstallKey(ctx, fresh); err != nil {
			t.Fatal(err)
		}
		fl.nodes[2].host.Crash()
		fl.stop(fl.nodes[2])
		if err := m.UseKey(ctx, fresh, false); err == nil {
			t.Error("used although a member is silent")
		}
		fl.wait(time.Minute, "failed", func() bool { return fl.nodes[0].member("r002").State == Failed })
		if err := m.UseKey(ctx, fresh, false); err == nil || !strings.Contains(err.Error(), "r002") {
			t.Errorf("used although a member is down: %v", err)
		}
		if err := m.UseKey(ctx, fresh, true); err != nil {
			t.Errorf("forced: %v", err)
		}
		if err := m.RemoveKey(ctx, base64.StdEncoding.EncodeToString(testKey), false); err == nil {
			t.Error("removed although a member is down")
		}
		if err := m.RemoveKey(ctx, base64.StdEncoding.EncodeToString(testKey), true); err != nil {
			t.Errorf("removal forced: %v", err)
		}
	})
}

func TestEncryptionIsRequiredBeyondLoopback(t *testing.T) {
	base := DefaultConfig()
	base.Name, base.Set = "a", newFakeSet("a", 1)
	tests := []struct {
		name   string
		change func(*Config)
		ok     bool
	}{
		{"all addresses", func(*Config) {}, false},
		{"all addresses with a key", func(c *Config) { c.Keys = [][]byte{testKey} }, true},
		{"all addresses, insecure", func(c *Config) { c.Insecure = true }, true},
		{"loopback", func(c *Config) { c.Bind = loopback() }, true},
		{"loopback that joins elsewhere", func(c *Config) { c.Bind, c.Join = loopback(), []string{"192.0.2.1:7946"} }, false},
		{"loopback that joins loopback", func(c *Config) { c.Bind, c.Join = loopback(), []string{"127.0.0.2", "localhost:1"} }, true},
		{"loopback, advertised elsewhere", func(c *Config) { c.Bind, c.Advertise = loopback(), "192.0.2.1" }, false},
	}
	for _, tt := range tests {
		c := base
		tt.change(&c)
		if err := c.validate(); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// FuzzKeyring reads anything as a keyring file: refused in words that hold nothing of it, or the same keys when it is
// written back.
func FuzzKeyring(f *testing.F) {
	const good = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	for _, s := range []string{`["` + good + `"]`, `["AAAAAAAAAAAAAAAAAAAAAA==","` + good + `"]`, `[]`, `{}`, `[1]`, `["x"]`, `[["` + good + `"]]`, "null", ""} {
		f.Add(s)
	}
	path := filepath.Join(f.TempDir(), "keyring.json")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		keys, err := LoadKeyring(path)
		if err != nil {
			if len(err.Error()) > 500 || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Fatalf("refused with %.600q", err)
			}
			return
		}
		if err := saveKeyring(path, keys); err != nil {
			t.Fatal(err)
		}
		again, err := LoadKeyring(path)
		if err != nil || !reflect.DeepEqual(again, keys) {
			t.Fatalf("%d keys are read again as %d, %v", len(keys), len(again), err)
		}
	})
}

// What a missing keyring is answered with makes one that can be read.
func TestTheAdviceOfAMissingKeyringMakesOne(t *testing.T) {
	need.Programs(t, "sh", "install")
	path := filepath.Join(t.TempDir(), "keyring.json")
	_, err := LoadKeyring(path)
	if err == nil {
		t.Fatal("a keyring that is not there was read")
	}
	_, step, ok := strings.Cut(err.Error(), "for the first one: ")
	if !ok {
		t.Fatalf("%v: no advice", err)
	}
	step = strings.ReplaceAll(step, "$(banmesh keygen)", NewKey())
	if out, err := exec.Command("sh", "-c", step).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", step, err, out)
	}
	if keys, err := LoadKeyring(path); err != nil || len(keys) != 1 {
		t.Errorf("afterwards: %d keys, %v", len(keys), err)
	}
}
