package main

import (
	"bufio"
	"context"

	"github.com/urfave/cli/v2"
	"go4.org/netipx"

	"banmesh/mesh/control"
)

// exportCommand writes while it reads, so a million bans need no memory here. After an error part of the list
// is written: exit 1 says so, and JSON is cut short.
func exportCommand(c *console) *cli.Command {
	format, all := formatPlain, false
	return &cli.Command{
		Name: "export", Category: "Bans", Usage: "write the bans as a list for other programs",
		Description: "Writes the bans in effect, less what an allow or never-ban covers: a prefix that is allowed in part is written as the prefixes of the\n" +
			"rest. --all also writes the bans that are not in effect; csv and json tell them apart. banmesh import reads all three formats.\n\n" +
			"Example:\n   banmesh export > bans.txt\n   banmesh export --format csv",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Value: formatPlain, Destination: &format, Usage: "`FORMAT`: plain (one prefix a line), csv or json"},
			&cli.BoolFlag{Name: "all", Destination: &all, Usage: "also the bans that are not effective"},
			c.socketFlag(),
		},
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			return c.buffered(func(out *bufio.Writer) error {
				w, err := newBanWriter(format, out)
				if err != nil {
					return err
				}
				return c.ask(cc.Context, listTime, func(ctx context.Context, cl *control.Client) error {
					if err := cl.List(ctx, control.ListQuery{}, func(b control.Ban) error { return writeParts(b, all, w.write) }); err != nil {
						return err
					}
					return w.end()
				})
			})
		},
	}
}

// writeParts writes a ban as what of it is effective; with all also one that is not, or that is held.
func writeParts(b control.Ban, all bool, write func(control.Ban) error) error {
	// A held ban is not enforced here, and so not handed to a program that would enforce it.
	if (!b.Effective || b.Held) && !all {
		return nil
	}
	if len(b.Except) == 0 {
		return write(b)
	}
	whole, err := control.ParsePrefix(b.Prefix)
	if err != nil {
		return err
	}
	var left netipx.IPSetBuilder
	left.AddPrefix(whole)
	for _, p := range b.Except {
		left.RemovePrefix(p)
	}
	set, err := left.IPSet()
	if err != nil {
		return err
	}
	// What is left has no holes, so each part is a ban of its own with the same records.
	b.Except = nil
	for _, p := range set.Prefixes() {
		b.Prefix = p.String()
		if err := write(b); err != nil {
			return err
		}
	}
	return nil
}
