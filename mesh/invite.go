package mesh

import (
	"context"
	"net"
	"slices"
	"time"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/invite"
)

// guest serves a machine that is not a member yet. The first may come while the agent is still being opened.
func (a *Agent) guest(ctx context.Context, c net.Conn, host string) {
	if !a.life.ready.Load() {
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
	if _, err := a.inviter.keys(); err != nil {
		return control.InviteReply{}, control.Errorf(control.CodeConflict, "invite: %v", err)
	}
	addrs := slices.Clone(c.Addr)
	for _, addr := range addrs {
		if err := config.CheckHostPort(addr); err != nil {
			return control.InviteReply{}, control.Errorf(control.CodeInvalid, "invite: the address %s %v", control.Show(addr), err)
		}
	}
	// The given addresses come first: an operator behind NAT knows better which one leads here.
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
