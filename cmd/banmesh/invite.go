package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
)

// inviteFor is how long a token is good for unless it is said.
const inviteFor = 15 * time.Minute

func inviteCommand(c *console) *cli.Command {
	var life string
	var addrs cli.StringSlice
	return &cli.Command{
		Name: "invite", Category: "Mesh", Usage: "make a token with which one new machine can join", ArgsUsage: "[NAME]",
		Description: "Give the token to banmesh join on the new machine: it fetches the mesh's keys and settings, and does the rest. It is good for\n" +
			"one machine and for a short time; hand it over as you would a password. Only this member knows it, so it must be running then.\n\n" +
			"Example:\n   banmesh invite\n   banmesh invite mail2 --for 1h",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "for", Destination: &life, Value: "15m", Usage: "how long the token is valid, `DURATION`"},
			&cli.StringSliceFlag{Name: "addr", Destination: &addrs, Usage: "address at which the new machine reaches this one, `HOST:PORT`, if not the one that members use"},
			c.jsonFlag(), c.socketFlag(),
		},
		Action: func(cc *cli.Context) error {
			args, err := positional(cc, 0, 1)
			if err != nil {
				return err
			}
			call := control.InviteCall{Life: int64(inviteFor / time.Second), Addr: addrs.Value()}
			if cc.IsSet("for") {
				d, err := control.ParseDuration(life)
				if err != nil {
					return usageError{err}
				}
				call.Life = int64(d / time.Second)
			}
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
			if len(r.Addrs) > 0 && loopback(r.Addrs) {
				c.warn("note: %s is reached from this machine alone: set gossip.bind or gossip.advertise, or give --addr HOST:PORT", r.Addrs[0])
			}
			_, err = fmt.Fprintln(c.out, r.Token)
			return err
		},
	}
}

func loopback(addrs []string) bool {
	for _, addr := range addrs {
		if ap, err := netip.ParseAddrPort(addr); err != nil || !ap.Addr().IsLoopback() {
			return false
		}
	}
	return true
}
