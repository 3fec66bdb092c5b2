package mesh

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
	"banmesh/mesh/invite"
	"banmesh/store"
)

// invitesKey is where the store keeps the invitations.
const invitesKey = "invitations"

// maxJoin is how many members a new machine is told of: one is enough, and it hears of the others.
const maxJoin = 8

// inviter lets new machines into the mesh.
type inviter struct {
	*invite.Host
	cfg  *config.Config
	mesh func() *gossip.Mesh // which is opened after it: it brings the guests
	log  *slog.Logger
}

// newInviter takes up the invitations that the store keeps.
func newInviter(cfg *config.Config, set *store.Store, mesh func() *gossip.Mesh, clock *clock, log *slog.Logger) *inviter {
	i := &inviter{cfg: cfg, mesh: mesh, log: log}
	saved, _ := set.Meta(invitesKey)
	var err error
	i.Host, err = invite.NewHost(invite.Config{
		Saved: saved, Save: func(ctx context.Context, b []byte) error { return set.SaveMeta(ctx, invitesKey, b) },
		Now: clock.now, Taken: i.nameTaken, Ours: i.holdsKey, Welcome: i.welcome, Logger: log,
	})
	if err != nil { // the bans go on; the invited machine is told that the token is unknown
		log.Error("invitations are lost: make new ones", "error", err)
	}
	return i
}

// A name that left is free again: machines are replaced under their old names. Case makes no other name: the one who joins would
// look like the member.
func (i *inviter) nameTaken(name string) bool {
	return slices.ContainsFunc(i.mesh().Members(), func(m gossip.Member) bool { return strings.EqualFold(m.Name, name) && m.State != gossip.Left })
}

// keys are the gossip's, from their file, where a changed one is kept as soon as it counts.
func (i *inviter) keys() ([][]byte, error) {
	if i.cfg.Gossip.Keyring == "" {
		return nil, errors.New("this mesh is not encrypted (gossip.keyring is not set): there is no key to give to a new machine")
	}
	return gossip.LoadKeyring(i.cfg.Gossip.Keyring)
}

// holdsKey reports whether one of the own gossip keys is among the names: such a machine is a member of this
// mesh already.
func (i *inviter) holdsKey(names []string) bool {
	keys, err := i.keys()
	return err == nil && slices.ContainsFunc(keys, func(k []byte) bool { return slices.Contains(names, gossip.KeyName(k)) })
}

// welcome is what a new machine is given.
func (i *inviter) welcome(name string) (*invite.Welcome, error) {
	if err := config.CheckName(name); err != nil {
		return nil, fmt.Errorf("the name %s %w", control.Show(name), err)
	}
	// Otherwise the machine would join, show green, and protect nobody with its bans.
	if m := i.cfg.Limits.Members; len(m) > 0 && !slices.Contains(m, name) {
		return nil, fmt.Errorf("limits.members does not name %s, so nothing that it bans would count: add it on every router first", name)
	}
	keys, err := i.keys()
	if err != nil {
		return nil, err
	}
	w := &invite.Welcome{Inviter: i.cfg.Name, Settings: i.cfg.Common(), Join: []string{i.mesh().Addr()}}
	for _, k := range keys {
		w.Keyring = append(w.Keyring, base64.StdEncoding.EncodeToString(k))
	}
	for _, m := range i.mesh().Members() {
		if !m.Self && m.State == gossip.Alive && len(w.Join) < maxJoin {
			w.Join = append(w.Join, m.Addr)
		}
	}
	// So that the new machine need not trust the first key that answers at the conductor's address.
	if k := &i.cfg.Commit; k.Driver == "netconf" {
		if w.KnownHosts, err = readSmall(k.KnownHosts); err != nil {
			i.log.Warn("the conductor's host keys are not given to a machine that joins", "error", err)
		}
	}
	return w, nil
}

// readSmall reads a file of a few lines.
func readSmall(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	// A path that names a device or a huge file must not fill the memory.
	const most = 256 << 10
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(b) > most {
		err = fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return string(b), err
}
