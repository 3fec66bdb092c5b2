package main

import (
	"net/netip"

	"github.com/urfave/cli/v2"
)

func exportCommand(c *console) *cli.Command {
	format := formatPlain
	return &cli.Command{
		Name: "export", Category: "Bans", Usage: "write the bans as a list for other programs",
		Description: "Example:\n   banmesh export > bans.txt\n   banmesh export --format csv",
		Flags:       []cli.Flag{&cli.StringFlag{Name: "format", Value: formatPlain, Destination: &format, Usage: "`FORMAT`: plain (one prefix a line), csv or json"}, c.socketFlag()},
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			if format == formatTable {
				format = formatPlain
			}
			return c.list(cc.Context, netip.Prefix{}, format)
		},
	}
}
