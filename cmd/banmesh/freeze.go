package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
)

func freezeCommand(c *console) *cli.Command {
	return c.order("freeze", "stop commits and enforcement, on every router", "Bans are still shared, and wait. Unbans, allows and expiries still take effect.",
		(*control.Client).Freeze, "frozen: nothing is added at the conductor or enforced until banmesh thaw")
}

func thawCommand(c *console) *cli.Command {
	return c.order("thaw", "resume commits and enforcement, on every router", "Ends every freeze that this agent has seen.",
		(*control.Client).Thaw, "thawed")
}

// order makes a command that only tells the agent to do something.
func (c *console) order(name, usage, about string, do func(*control.Client, context.Context) error, done string) *cli.Command {
	return &cli.Command{
		Name: name, Category: "Conductor", Usage: usage,
		Description: about + "\n\nExample:\n   banmesh " + name,
		Flags:       []cli.Flag{c.socketFlag()},
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			err := c.ask(cc.Context, answerTime, func(ctx context.Context, cl *control.Client) error { return do(cl, ctx) })
			if err == nil {
				fmt.Fprintln(c.out, done)
			}
			return err
		},
	}
}
