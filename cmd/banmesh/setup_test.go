package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banmesh/mesh/install"
	"banmesh/mesh/invite"
)

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
