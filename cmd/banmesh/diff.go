package main

import (
	"bufio"
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
)

// diffCommand follows diff(1) with --exit-code: 1 if there is a difference. Held changes do not count,
// because the next commit would not make them.
func diffCommand(c *console) *cli.Command {
	var status bool
	return &cli.Command{
		Name: "diff", Category: "Conductor", Usage: "show what the next commit would change at the conductor",
		Description: "Example:\n   banmesh diff\n   banmesh diff --exit-code && echo \"nothing to do\"",
		Flags: []cli.Flag{
			c.jsonFlag(), c.socketFlag(),
			&cli.BoolFlag{Name: "exit-code", Destination: &status, Usage: "exit 1 if the commit would change something"},
		},
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			var d control.Diff
			err := c.ask(cc.Context, commitTime, func(ctx context.Context, cl *control.Client) error {
				var err error
				d, err = cl.Diff(ctx)
				return err
			})
			if err != nil {
				return err
			}
			if c.json {
				err = c.printJSON(d)
			} else {
				err = c.printDiff(d)
			}
			// The list itself is the answer, so nothing is said on stderr besides.
			if err == nil && status && len(d.Add)+len(d.Remove) > 0 {
				return exitStatus(exitFailed)
			}
			return err
		},
	}
}

// printDiff prints a line for each prefix, its sign in front.
func (c *console) printDiff(d control.Diff) error {
	return c.buffered(func(out *bufio.Writer) error {
		part := func(sign string, k colour, ps control.Prefixes, why string) {
			for _, p := range ps {
				fmt.Fprintln(out, c.paint(k, sign+" "+p.String()+why))
			}
		}
		part("+", green, d.Add, "")
		part("-", red, d.Remove, "")
		part("-", yellow, d.Held, "  held back: so many at once need banmesh commit --force")
		part("+", yellow, d.HeldAdd, "  held back: so wide, or so many at once, need banmesh commit --force")
		part("!", yellow, d.Capped, "  left out: max_addresses is reached")
		part("?", dim, d.Foreign, "  foreign: not put there by banmesh")
		if len(d.Add)+len(d.Remove)+len(d.Held)+len(d.HeldAdd)+len(d.Capped)+len(d.Foreign) == 0 {
			fmt.Fprintln(out, "nothing to change")
		}
		return nil
	})
}
