package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
)

// joinTime bounds a join: members that do not answer are tried one after the other.
const joinTime = time.Minute

func joinCommand(c *console) *cli.Command {
	return &cli.Command{
		Name: "join", Category: "Mesh", Usage: "add members to the running agent", ArgsUsage: "ADDR...",
		Description: "One member is enough to meet them all. They are remembered over restarts, and tried again when they are away.\n\n" +
			"Example:\n   banmesh join router2:7946 192.0.2.3:7946",
		Flags: []cli.Flag{c.socketFlag()},
		Action: func(cc *cli.Context) error {
			args, err := positional(cc, 1, -1)
			if err != nil {
				return err
			}
			call := control.JoinCall{Addrs: args}
			if err := call.Validate(); err != nil {
				return usageError{err}
			}
			var r control.JoinReply
			err = c.ask(cc.Context, joinTime, func(ctx context.Context, cl *control.Client) error {
				var err error
				r, err = cl.Join(ctx, call)
				return err
			})
			if err != nil {
				return err
			}
			why := strings.Join(r.Failed, "; ")
			if r.Joined == 0 {
				return fmt.Errorf("no member answered, they are remembered and tried again: %s", why)
			}
			fmt.Fprintf(c.out, "joined %d of %d\n", r.Joined, len(args))
			if why != "" {
				c.warn("note: remembered and tried again: %s", why)
			}
			return nil
		},
	}
}
