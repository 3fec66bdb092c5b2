package main

import (
	"context"
	"errors"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
	"banmesh/mesh/demo"
)

// demoCommand needs neither root nor anything installed, and changes nothing on the machine.
func demoCommand(c *console) *cli.Command {
	var stay bool
	var driver string
	return &cli.Command{
		Name: "demo", Category: "Other", Usage: "show three agents and a simulated conductor in action",
		Description: "All in one process, on loopback, with attackers from a small made-up log. Less than 30 seconds.\n\n" +
			"Example:\n   banmesh demo\n   banmesh demo --stay",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "driver", Value: "netconf", Destination: &driver, Usage: "how to commit, `netconf|rest`"},
			&cli.BoolFlag{Name: "stay", Destination: &stay, Usage: "keep it running with further bans, and print where its page and sockets are"},
		},
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			if driver != "netconf" && driver != "rest" {
				return usagef("--driver %s: want netconf or rest", control.Show(driver))
			}
			ctx, stop := signal.NotifyContext(cc.Context, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP) // the last when the terminal closes
			defer stop()
			err := demo.Run(ctx, demo.Options{Out: c.out, REST: driver == "rest", Colour: c.colours(), Stay: stay, Version: thisBuild().Version})
			// An interrupted demo has not shown what it was started for: exit 1.
			if errors.Is(err, context.Canceled) {
				return errors.New("demo: interrupted")
			}
			return err
		},
	}
}
