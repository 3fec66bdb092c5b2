package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
)

// leaveTime bounds the leave and the stop after it.
const leaveTime = 15 * time.Second

// leaveCommand returns when the agent has stopped, so that a script may remove the package next.
func leaveCommand(c *console) *cli.Command {
	var s setup
	var uninstall bool
	return &cli.Command{
		Name: "leave", Category: "Mesh", Usage: "leave the mesh and stop the agent",
		Description: "Tells the others, so that none of them waits for this router. Its bans stay in the mesh. --uninstall also takes back what\n" +
			"banmesh init or banmesh join has put in place, and nothing else; the package stays.\n\n" +
			"Example:\n   banmesh leave\n   banmesh leave --uninstall",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "uninstall", Destination: &uninstall, Usage: "also undo what init or join did"},
			s.configFlag(), c.socketFlag(),
		},
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			if uninstall {
				return s.uninstall(cc, c)
			}
			if cc.IsSet("config") {
				return usagef("leave: --config is for --uninstall")
			}
			return c.ask(cc.Context, leaveTime, c.leave)
		},
	}
}

// leave returns when the agent has stopped.
func (c *console) leave(ctx context.Context, cl *control.Client) error {
	if err := cl.Leave(ctx); err != nil {
		return err
	}
	// A stream of events ends with the agent, so nothing has to be asked again and again.
	err := cl.Events(ctx, func(control.Event) error { return nil })
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("it left the mesh, and has not stopped yet: look at its log")
	}
	_, err = fmt.Fprintln(c.out, "left the mesh; the agent has stopped")
	return err
}
