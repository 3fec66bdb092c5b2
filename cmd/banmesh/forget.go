package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
)

// forgetCommand writes a record that every member acts on; a member that lives refutes it by living.
func forgetCommand(c *console) *cli.Command {
	return &cli.Command{
		Name: "forget", Category: "Mesh", Usage: "remove a failed member, on every router", ArgsUsage: "NAME",
		Description: "For a router that is not coming back: it disappears from members and warnings, is no longer looked for, and changes of the gossip\n" +
			"keys no longer wait for it. Its bans stay until they end; banmesh revoke --origin NAME lifts them. A live router is not forgotten,\n" +
			"and one that comes back is a member as before.\n\nExample:\n   banmesh forget router7",
		Flags: []cli.Flag{c.socketFlag()},
		Action: func(cc *cli.Context) error {
			given, err := positional(cc, 1, 1)
			if err != nil {
				return err
			}
			call := control.ForgetCall{Name: given[0]}
			err = c.ask(cc.Context, answerTime, func(ctx context.Context, cl *control.Client) error { return cl.Forget(ctx, call) })
			if err == nil {
				fmt.Fprintf(c.out, "%s is forgotten; its bans stay until they end\n", call.Name)
			}
			return err
		},
	}
}
