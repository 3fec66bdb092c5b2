package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
