package mesh

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
	"banmesh/mesh/invite"
)

// invitesKey is where the store keeps the invitations.
const invitesKey = "invitations"

// maxJoin is how many members a new machine is told of: one is enough, and it hears of the others.
const maxJoin = 8

// openInvitations makes what lets new machines in, before the gossip that brings them.
func (a *Agent) openInvitations() {
	saved, _ := a.store.Meta(invitesKey)
	var err error
	a.inviter, err = invite.NewHost(invite.Config{
		Saved: saved, Save: func(ctx context.Context, b []byte) error { return a.store.SaveMeta(ctx, invitesKey, b) },
		Now: a.clock.now, Taken: a.nameTaken, Ours: a.holdsKey, Welcome: a.welcome, Logger: a.log,
	})
	if err != nil { // the bans go on; the invited machine is told that the token is unknown
		a.log.Error("invitations are lost: make new ones", "error", err)
	}
}

// guest serves a machine that is not a member yet. The first may come while the agent is still being opened.
func (a *Agent) guest(ctx context.Context, c net.Conn, host string) {
	if !a.ready.Load() {
		c.Close() // it hears that nobody is invited here, and asks again
		return
	}
	a.inviter.Serve(ctx, c, host)
}

// Invite makes a token that lets one machine in.
func (a *Agent) Invite(ctx context.Context, c control.InviteCall) (control.InviteReply, error) {
	if c.Name != "" {
		if err := config.CheckName(c.Name); err != nil {
			return control.InviteReply{}, control.Errorf(control.CodeInvalid, "invite: the name %s %v", control.Show(c.Name), err)
		}
	}
	if _, err := a.keys(); err != nil {
		return control.InviteReply{}, control.Errorf(control.CodeConflict, "invite: %v", err)
	}
	addrs := slices.Clone(c.Addr)
	for _, addr := range addrs {
		if err := config.CheckHostPort(addr); err != nil {
			return control.InviteReply{}, control.Errorf(control.CodeInvalid, "invite: the address %s %v", control.Show(addr), err)
		}
	}
	if own := a.mesh.Addr(); !slices.Contains(addrs, own) {
		addrs = append(addrs, own)
	}
	token, err := a.inviter.Invite(ctx, c.Name, a.cfg.Gossip.Label, addrs, time.Duration(c.Life)*time.Second)
	if err != nil {
		return control.InviteReply{}, control.Errorf(control.CodeConflict, "invite: %v", err)
	}
	return control.InviteReply{Token: token.String(), Until: control.Time(token.Until.UnixMilli()), Addrs: token.Addrs}, nil
}

// Invitations returns those of this agent that are open.
func (a *Agent) Invitations(context.Context) ([]control.Invitation, error) {
	return shownInvitations(a.inviter.Open()), nil
}

// Uninvite takes invitations back.
func (a *Agent) Uninvite(ctx context.Context, c control.UninviteCall) (control.UninviteReply, error) {
	ended, err := a.inviter.Cancel(ctx, c.Which)
	if err != nil {
		return control.UninviteReply{}, control.Errorf(control.CodeConflict, "invite: %v", err)
	}
	return control.UninviteReply{Cancelled: shownInvitations(ended)}, nil
}

// shownInvitations leaves the keys out.
func shownInvitations(all []invite.Invitation) (out []control.Invitation) {
	for _, i := range all {
		out = append(out, control.Invitation{ID: i.ID, Name: i.Name, Made: control.At(i.Made), Until: control.At(i.Until)})
	}
	return out
}

func (a *Agent) nameTaken(name string) bool {
	return slices.ContainsFunc(a.mesh.Members(), func(m gossip.Member) bool { return m.Name == name && m.State != gossip.Left })
}

// keys are the gossip's, from their file, where a changed one is kept as soon as it counts.
func (a *Agent) keys() ([][]byte, error) {
	if a.cfg.Gossip.Keyring == "" {
		return nil, errors.New("this mesh is not encrypted (gossip.keyring is not set): there is no key to give to a new machine")
	}
	return gossip.LoadKeyring(a.cfg.Gossip.Keyring)
}

func (a *Agent) holdsKey(names []string) bool {
	keys, err := a.keys()
	return err == nil && slices.ContainsFunc(keys, func(k []byte) bool { return slices.Contains(names, gossip.KeyName(k)) })
}

// welcome is what a new machine is given.
func (a *Agent) welcome(name string) (*invite.Welcome, error) {
	if err := config.CheckName(name); err != nil {
		return nil, fmt.Errorf("the name %s %w", control.Show(name), err)
	}
	if m := a.cfg.Limits.Members; len(m) > 0 && !slices.Contains(m, name) {
		return nil, fmt.Errorf("limits.members does not name %s, so nothing that it bans would count: add it on every router first", name)
	}
	keys, err := a.keys()
	if err != nil {
		return nil, err
	}
	w := &invite.Welcome{Inviter: a.cfg.Name, Settings: a.cfg.Common(), Join: []string{a.mesh.Addr()}}
	for _, k := range keys {
		w.Keyring = append(w.Keyring, base64.StdEncoding.EncodeToString(k))
	}
	for _, m := range a.mesh.Members() {
		if !m.Self && m.State == gossip.Alive && len(w.Join) < maxJoin {
			w.Join = append(w.Join, m.Addr)
		}
	}
	if k := &a.cfg.Commit; k.Driver == "netconf" {
		if w.KnownHosts, err = readSmall(k.KnownHosts); err != nil {
			a.log.Warn("the conductor's host keys are not given to a machine that joins", "error", err)
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
	const most = 256 << 10
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(b) > most {
		err = fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return string(b), err
}
