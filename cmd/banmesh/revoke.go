package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"banmesh/internal/excerpt"
	"banmesh/internal/shell"
	"banmesh/mesh/control"
)

// maxOrigin bounds a member's name in bytes, as memberlist does.
const maxOrigin = 255

// revokeCommand looks for a member of that name only when it found nothing to lift: bans of a router that is
// gone for long are lifted all the same, and a typing error is told.
func revokeCommand(c *console) *cli.Command {
	var call control.RevokeCall
	var since duration
	return &cli.Command{
		Name: "revoke", Category: "Bans", Usage: "lift all bans that one router made",
		Description: "For a faulty or compromised router. With --block, none of its past or future records count until\n--unblock. Asks first.\n\n" +
			"Example:\n   banmesh revoke --origin router3 --since 1h --yes",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "origin", Destination: &call.Origin, Usage: "the router's `NAME`"},
			&cli.GenericFlag{Name: "since", Value: &since, Usage: "only offences of the last `DURATION`"},
			&cli.BoolFlag{Name: "block", Destination: &call.Block, Usage: "ignore all its records, past and future"},
			&cli.BoolFlag{Name: "unblock", Destination: &call.Unblock, Usage: "accept its records again"},
			dryRunFlag(&call.DryRun), c.yesFlag(), c.socketFlag(),
		},
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			if call.Origin == "" {
				return usagef("revoke: --origin is missing: banmesh members shows the names")
			}
			if call.Block && call.Unblock {
				return usagef("revoke: --block or --unblock, not both")
			}
			if len(call.Origin) > maxOrigin {
				return usagef("revoke: --origin %s: no member has so long a name", control.Show(call.Origin))
			}
			if since > 0 {
				call.Since = control.At(c.now().Add(-since.length()))
			}
			if call.DryRun && call.Unblock {
				return usagef("revoke: --dry-run tells what would be lifted, and --unblock lifts nothing")
			}
			// Unblocking lifts nothing, and blocks can be given again.
			if !call.Unblock && !call.DryRun {
				if err := c.confirm("lift the bans made by " + call.Origin); err != nil {
					return err
				}
				call.Confirmed = true
			}
			var r control.RevokeReply
			err := c.ask(cc.Context, callTime+bulkTime, func(ctx context.Context, cl *control.Client) error {
				var err error
				r, err = cl.Revoke(ctx, call)
				return err
			})
			if err != nil {
				return err
			}
			// A block may be wanted before a router has banned anything, so its name is taken as it is.
			if r.Lifted == 0 && !call.Block && !call.Unblock {
				if err := c.refuseUnknown(cc.Context, call.Origin); err != nil {
					return err
				}
			}
			switch {
			case call.DryRun:
				fmt.Fprintf(c.out, "%s %s\n", excerpt.Count(r.Lifted, "prefix", "prefixes"), unbannedWord(true))
			case call.Unblock:
				fmt.Fprintf(c.out, "%s counts again\n", call.Origin)
			case call.Block:
				fmt.Fprintf(c.out, "%s unbanned; nothing of %s counts until banmesh revoke --origin %s --unblock\n", excerpt.Count(r.Lifted, "prefix", "prefixes"), call.Origin, shell.Quote(call.Origin))
			default:
				fmt.Fprintf(c.out, "%s unbanned\n", excerpt.Count(r.Lifted, "prefix", "prefixes"))
			}
			return nil
		},
	}
}

// refuseUnknown fails where a router of which nothing was lifted is no member either: its name is mistyped, more likely
// than not.
func (c *console) refuseUnknown(ctx context.Context, origin string) error {
	var members []control.Member
	err := c.ask(ctx, answerTime, func(ctx context.Context, cl *control.Client) error {
		var err error
		members, err = cl.Members(ctx)
		return err
	})
	if err != nil || slices.ContainsFunc(members, func(m control.Member) bool { return m.Name == origin }) {
		return err
	}
	return fmt.Errorf("revoke: no ban of %s is known, and no member has that name: banmesh members shows them", control.Show(origin))
}
