package mesh

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
	"banmesh/mesh/invite"
)

// encrypted gives an agent a keyring of its own.
func encrypted(t *testing.T, change func(*config.Config)) func(*config.Config) {
	ring := filepath.Join(t.TempDir(), "keyring.json")
	if err := os.WriteFile(ring, []byte(fmt.Sprintf("[%q]", gossip.NewKey())), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(c *config.Config) {
		c.Gossip.Keyring = ring
		if change != nil {
			change(c)
		}
	}
}

func TestAMachineIsLetInOnTheGossipsPort(t *testing.T) {
	t.Parallel()
	a := started(t, "server1", encrypted(t, func(c *config.Config) {
		c.Bans.MaxDuration, c.Quorum.Default, c.Limits.LivePerOrigin, c.Enforce.Limit = config.Duration(24*time.Hour), 2, 5000, 7
	}))
	r, err := a.Invite(t.Context(), control.InviteCall{Life: 900})
	if err != nil {
		t.Fatal(err)
	}
	token, err := invite.ParseToken(r.Token)
	if err != nil || token.Addrs[0] != a.Addr() {
		t.Fatalf("%+v, %v", token, err)
	}
	ask := invite.Request{Name: "server2", Machine: "m"}
	for _, taken := range []string{"server1", "SERVER1", "-x", "not a name"} {
		if _, err := invite.Ask(t.Context(), token, invite.Request{Name: taken, Machine: "m"}); err == nil {
			t.Errorf("let in as %q", taken)
		}
	}
	w, err := invite.Ask(t.Context(), token, ask)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := a.inviter.keys()
	if key, kerr := gossip.ParseKey(w.Keyring[0]); err != nil || kerr != nil || gossip.KeyName(key) != gossip.KeyName(keys[0]) {
		t.Errorf("given %v (%v), which is not the mesh's key", w.Keyring, kerr)
	}
	if got, want := fmt.Sprint(w.Settings), "map[bans.max_duration:24h0m0s gossip.profile:local limits.live_per_origin:5000 quorum.default:2]"; got != want {
		t.Errorf("given %s, want %s", got, want)
	}
	// The gossip itself is served on that port all the same, and garbage is not.
	if b := started(t, "server2", func(c *config.Config) { c.Gossip.Keyring, c.Join = a.cfg.Gossip.Keyring, w.Join }); true {
		eventually(t, "both to be members", func() bool { return len(b.mesh.Members()) == 2 && b.mesh.InSync() })
	}
	c, err := net.Dial("tcp", a.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("\x16\x03\x01\x00\x05hello"))
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if b, err := io.ReadAll(c); err != nil || len(b) > 64 {
		t.Errorf("garbage is answered with %q, %v", b, err)
	}
}

// The gossip takes streams before the agent that answers them is whole.
func TestAGuestIsSentAwayUntilTheAgentIsReady(t *testing.T) {
	t.Parallel()
	a := started(t, "server1", encrypted(t, nil))
	r, err := a.Invite(t.Context(), control.InviteCall{Life: 900})
	if err != nil {
		t.Fatal(err)
	}
	token, err := invite.ParseToken(r.Token)
	if err != nil {
		t.Fatal(err)
	}
	a.life.ready.Store(false)
	if _, err := invite.Ask(t.Context(), token, invite.Request{Name: "server2", Machine: "m"}); !errors.Is(err, invite.ErrNoAnswer) {
		t.Errorf("before that: %v", err)
	}
	a.life.ready.Store(true)
	if _, err := invite.Ask(t.Context(), token, invite.Request{Name: "server2", Machine: "m"}); err != nil {
		t.Errorf("after that: %v", err)
	}
}

func TestWithoutAKeyNobodyIsInvited(t *testing.T) {
	t.Parallel()
	a := started(t, "server1", nil)
	if _, err := a.Invite(t.Context(), control.InviteCall{Life: 900}); err == nil || !strings.Contains(err.Error(), "not encrypted") {
		t.Errorf("%v", err)
	}
}

func TestAMachineThatWouldCountForNothingIsNotLetIn(t *testing.T) {
	t.Parallel()
	a := started(t, "server1", encrypted(t, func(c *config.Config) { c.Limits.Members = []string{"server1"} }))
	r, err := a.Invite(t.Context(), control.InviteCall{Life: 900, Addr: []string{"192.0.2.1:7946"}})
	if err != nil {
		t.Fatal(err)
	}
	token, err := invite.ParseToken(r.Token)
	if err != nil || len(token.Addrs) != 2 {
		t.Fatal(token, err)
	}
	token.Addrs = token.Addrs[1:]
	if _, err := invite.Ask(t.Context(), token, invite.Request{Name: "server2", Machine: "m"}); err == nil || !strings.Contains(err.Error(), "limits.members does not name server2") {
		t.Errorf("%v", err)
	}
}
