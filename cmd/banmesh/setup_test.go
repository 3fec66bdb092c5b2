package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banmesh/mesh/config"
	"banmesh/mesh/gossip"
	"banmesh/mesh/install"
	"banmesh/mesh/invite"
)

// An invitation's name holds against the one that the package wrote, not against one
// that somebody gave.
func TestAnInvitedNameTakesThePackagesPlace(t *testing.T) {
	for text, want := range map[string]string{
		"name: another  # the host's, by the package, for machine 0123456789ab\n": "server2",
		"name: another\n": "",
	} {
		s := &setup{config: filepath.Join(t.TempDir(), "banmesh.yaml")}
		if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var err error
		if s.m, err = install.Open(s.config, func(string, ...any) {}); err != nil {
			t.Fatal(err)
		}
		if got, err := s.nameOf("server2"); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: named %q, %v, want %q", text, got, err, want)
		}
	}
}

// A compromised inviter must not have root, or the new agent, run a command of its choice.
func TestOnlyCommonSettingsAreTakenFromAnInviter(t *testing.T) {
	dir := t.TempDir()
	var said bytes.Buffer
	c := newConsole(nil, &said, &said, func(string) string { return "" })
	c.utmp = filepath.Join(dir, "utmp")
	s := &setup{config: filepath.Join(dir, "banmesh.yaml"), noEnforce: true}
	m, err := install.Open(s.config, func(string, ...any) {})
	if err != nil {
		t.Fatal(err)
	}
	s.m = m
	foreign := []string{"alert.command", "fail2ban.client", "data_dir", "socket", "http.listen", "commit.key", "commit.ca_file", "enforce.driver", "never_ban", "gossip.keyring"}
	w := &invite.Welcome{Inviter: "server1", Name: "server2", Join: []string{"192.0.2.1:7946"}, Settings: map[string]any{"bans.max_duration": "24h0m0s", "gossip.profile": "wan"}}
	for _, key := range foreign {
		w.Settings[key] = "/tmp/evil"
	}
	var got []string
	for _, set := range s.wanted(c, w).Settings {
		got = append(got, set.Key)
	}
	slices.Sort(got)
	if want := []string{"bans.max_duration", "gossip.profile", "join", "name"}; !slices.Equal(got, want) {
		t.Errorf("takes %v, want %v", got, want)
	}
	for _, key := range foreign {
		if !strings.Contains(said.String(), `"server1" sent the setting "`+key+`",`) {
			t.Errorf("does not say that %s was dropped:\n%s", key, said.String())
		}
	}
}

// An inviter is believed about the mesh, and not about this machine: no answer of one steers the terminal or writes a configuration
// or a keyring that cannot be read.
func TestAnInvitersAnswerIsOnlyAnAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*invite.Welcome)
		says  string // of the error; "" where it is taken
	}{
		"nothing is wrong":      {func(*invite.Welcome) {}, ""},
		"a user for a terminal": {func(w *invite.Welcome) { w.Settings["commit.user"] = "admin\x1b[2J" }, "commit.user"},
		"a tenant in reverse":   {func(w *invite.Welcome) { w.Settings["commit.tenant"] = "\u202etnanet" }, "commit.tenant"},
		"a conductor in reverse": {func(w *invite.Welcome) {
			w.Settings["commit.conductors"] = []any{"https://\u202e9.2.0.291"}
		}, "commit.conductors"},
		"a certificate in reverse": {func(w *invite.Welcome) { w.Settings["commit.pin_sha256"] = "\u202eaaaa" }, "commit.pin_sha256"},
		"an algorithm in reverse": {func(w *invite.Welcome) {
			w.Settings["commit.host_key_algorithms"] = []any{"asr-\u202ehss"}
		}, "commit.host_key_algorithms"},
		"a label of two lines": {func(w *invite.Welcome) {
			w.Settings["gossip.label"] = "a\nfail2ban: {client: evil}"
		}, "gossip.label"},
		"a name of two lines": {func(w *invite.Welcome) { w.Name = "a\nalert: {command: evil}" }, "name"},
		"a value of its own":  {func(w *invite.Welcome) { w.Settings["bans.max_duration"] = []any{map[string]any{"x": 1}} }, "bans.max_duration"},
		"a key within a key":  {func(w *invite.Welcome) { w.Settings["bans.x: 1\nalert"] = "evil" }, "does not know the key"},
		"no key of a mesh":    {func(w *invite.Welcome) { w.Keyring = []string{"\x1b]0;x\a"} }, "the mesh's keys"},
		"no address":          {func(w *invite.Welcome) { w.Join = []string{"\x1b[2J:7946"} }, "join"},
		"five thousand of them": {func(w *invite.Welcome) {
			w.Join = nil
			for i := range 5000 {
				w.Join = append(w.Join, fmt.Sprintf("192.0.2.1:%d", i+1000))
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var said bytes.Buffer
			s := &setup{config: filepath.Join(dir, "banmesh.yaml"), noEnforce: true}
			if err := os.WriteFile(s.config, fmt.Appendf(nil, "data_dir: %s/data\nsocket: %[1]s/run/s\n", dir), 0o600); err != nil {
				t.Fatal(err)
			}
			con := newConsole(nil, &said, &said, func(string) string { return "" })
			con.utmp = filepath.Join(dir, "utmp")
			var err error
			if s.m, err = install.Open(s.config, func(format string, args ...any) { fmt.Fprintf(&said, format+"\n", args...) }); err != nil {
				t.Fatal(err)
			}
			if err := s.m.Begin(install.Record{By: "join"}); err != nil {
				t.Fatal(err)
			}
			w := &invite.Welcome{
				Inviter: "server1", Name: "server2", Join: []string{"192.0.2.1:7946"}, Keyring: []string{gossip.NewKey()},
				Settings: map[string]any{"commit.driver": "rest", "commit.conductors": []any{"https://192.0.2.9", "https://192.0.2.66"}, "commit.pin_sha256": strings.Repeat("a", 64)},
			}
			c.spoil(w)
			err = s.m.Configure(s.wanted(con, w))
			if err == nil {
				err = s.conductor(con)
			}
			switch {
			case c.says == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.says == "" && (len(s.m.File.Join) > maxJoined || !strings.Contains(said.String(), "at https://192.0.2.9 and https://192.0.2.66,")):
				t.Errorf("%d members to join; said:\n%s", len(s.m.File.Join), &said)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("%v, want a word about %s", err, c.says)
			}
			if strings.ContainsAny(said.String(), "\x1b\a\u202e") {
				t.Errorf("steers the terminal: %q", said.String())
			}
			if _, err := config.Load(s.config); err != nil {
				t.Errorf("the configuration is spoiled: %v", err)
			}
		})
	}
}

// A password from before is shown to whatever conductor the answer names: the operator is told.
func TestAPasswordFromBeforeIsNotGivenAwaySilently(t *testing.T) {
	dir := t.TempDir()
	password := filepath.Join(dir, "conductor_password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	con := newConsole(nil, &said, &said, func(string) string { return "" })
	s := &setup{m: &install.Machine{Record: &install.Record{By: "join"}, File: &config.File{Config: config.Default()}}}
	k := &s.m.File.Commit
	k.Driver, k.PasswordFile, k.Conductors = "rest", password, []string{"https://192.0.2.66"}
	if err := s.conductor(con); err != nil {
		t.Fatal(err)
	}
	if text := said.String(); !strings.Contains(text, "shows it to https://192.0.2.66") || strings.Contains(text, "secret") {
		t.Errorf("said: %s", text)
	}
}
