package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
)

// inviteCommand prints the token alone on stdout, so that it can go straight to a file or ssh, and everything
// about it on stderr.
func inviteCommand(c *console) *cli.Command {
	var life, cancel string
	var list bool
	var addrs cli.StringSlice
	return &cli.Command{
		Name: "invite", Category: "Mesh", Usage: "make a token with which one new machine can join", ArgsUsage: "[NAME]",
		Description: "Give the token to banmesh join on the new machine: it fetches the mesh's keys and settings, and does the rest. It is good for\n" +
			"one machine and for a short time; hand it over as you would a password. Only this member knows it, so it must be running then.\n" +
			"--list shows the invitations that were made here and are still open, never their tokens; --cancel takes one back.\n\n" +
			"Example:\n   banmesh invite\n   banmesh invite mail2 --for 1h\n   banmesh invite --cancel mail2",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "for", Destination: &life, Value: "15m", Usage: "how long the token is valid, `DURATION`"},
			&cli.StringSliceFlag{Name: "addr", Destination: &addrs, Usage: "address at which the new machine reaches this one, `HOST:PORT`, if not the one that members use"},
			&cli.BoolFlag{Name: "list", Destination: &list, Usage: "show the open invitations that were made on this member"},
			&cli.StringFlag{Name: "cancel", Destination: &cancel, Usage: "take back the open invitations for a name, or the one with an id: `NAME|ID`"},
			c.jsonFlag(), c.socketFlag(),
		},
		Action: func(cc *cli.Context) error {
			args, err := positional(cc, 0, 1)
			if err != nil {
				return err
			}
			if list || cc.IsSet("cancel") {
				if len(args) > 0 || cc.IsSet("for") || cc.IsSet("addr") || list && cc.IsSet("cancel") {
					return usagef("invite: --list and --cancel exclude each other, NAME, --for and --addr")
				}
				if list {
					return show(cc.Context, c, (*control.Client).Invitations, c.printInvitations)
				}
				return c.uninvite(cc.Context, control.UninviteCall{Which: cancel})
			}
			d, err := control.ParseDuration(life)
			if err != nil {
				return usageError{err}
			}
			call := control.InviteCall{Life: int64(d / time.Second), Addr: addrs.Value()}
			if len(args) > 0 {
				call.Name = args[0]
			}
			if err := call.Validate(); err != nil {
				return usageError{err}
			}
			var r control.InviteReply
			err = c.ask(cc.Context, answerTime, func(ctx context.Context, cl *control.Client) error {
				var err error
				r, err = cl.Invite(ctx, call)
				return err
			})
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(r)
			}
			c.warn("run this on the new machine, until %s, as root: banmesh join TOKEN", time.UnixMilli(int64(r.Until)).Format(time.DateTime+" MST"))
			// The token is of no use elsewhere then, and nothing else would say so before somebody has tried it
			// there.
			if len(r.Addrs) > 0 && loopback(r.Addrs) {
				c.warn("note: %s is reached from this machine alone: set gossip.bind or gossip.advertise, or give --addr HOST:PORT", r.Addrs[0])
			}
			_, err = fmt.Fprintln(c.out, r.Token)
			return err
		},
	}
}

// uninvite takes back open invitations of this router. Whoever has joined by one is a member, and stays one.
func (c *console) uninvite(ctx context.Context, call control.UninviteCall) error {
	if err := call.Validate(); err != nil {
		return usageError{err}
	}
	var r control.UninviteReply
	err := c.ask(ctx, answerTime, func(ctx context.Context, cl *control.Client) (err error) {
		r, err = cl.Uninvite(ctx, call)
		return err
	})
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(r)
	}
	for _, i := range r.Cancelled {
		fmt.Fprintf(c.out, "invitation %s for %s taken back: its token lets nobody in\n", i.ID, invited(i))
	}
	return nil
}

// printInvitations never shows tokens: only the answer to the invitation has them.
func (c *console) printInvitations(all []control.Invitation) error {
	if len(all) == 0 {
		fmt.Fprintln(c.out, "no open invitation was made here")
		return nil
	}
	var t table
	t.head("ID", "FOR", "MADE", "ENDS")
	for _, i := range all {
		t.row(cell{text: i.ID}, cell{text: invited(i)}, cell{text: c.moment(i.Made)}, cell{text: c.moment(i.Until)})
	}
	return t.write(c.out, c.paint)
}

// invited says whom an invitation lets in.
func invited(i control.Invitation) string {
	if i.Name == "" {
		return "any machine"
	}
	return i.Name
}

// loopback reports whether all addresses are reached from this machine alone. A host name is taken for
// reachable.
func loopback(addrs []string) bool {
	for _, addr := range addrs {
		if ap, err := netip.ParseAddrPort(addr); err != nil || !ap.Addr().IsLoopback() {
			return false
		}
	}
	return true
}
