package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/enforce"
)

// leaveTime bounds the leave and the stop after it. The package's removal gives the command 20 s.
const leaveTime = 15 * time.Second

// leaveCommand returns when the agent has stopped, so that a script may remove the package next.
func leaveCommand(c *console) *cli.Command {
	var s setup
	var uninstall bool
	return &cli.Command{
		Name: "leave", Category: "Mesh", Usage: "leave the mesh and stop the agent",
		Description: "Tells the others, so that none of them waits for this router. Its bans stay in the mesh. --uninstall also takes back what\n" +
			"banmesh init or banmesh join has put in place, and nothing else; the package stays. Where the agent does not run, root's leave\n" +
			"still removes what it has left in the kernel.\n\n" +
			"Example:\n   banmesh leave\n   banmesh leave --uninstall",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "uninstall", Destination: &uninstall, Usage: "also undo what init or join did"},
			s.configFlag(), c.yesFlag(), c.socketFlag(),
		},
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			if uninstall {
				return s.uninstall(cc, c)
			}
			// Without --uninstall the socket alone says which agent is meant.
			if cc.IsSet("config") {
				return usagef("leave: --config is for --uninstall")
			}
			err := c.ask(cc.Context, leaveTime, c.leave)
			if control.NoneRuns(err) {
				// The exit code stays that of no agent.
				c.clearTable(cc.Context)
			}
			return err
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
	// Whatever else ended it, the agent is gone, also if it stopped before this could connect.
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("it left the mesh, and has not stopped yet: look at its log")
	}
	_, err = fmt.Fprintln(c.out, "left the mesh; the agent has stopped")
	return err
}

// clearTable removes the table that a stopped agent has left in the kernel, wherever enforce.netns says: its bans are lifted by
// nobody else. The package's removal relies on it.
func (c *console) clearTable(ctx context.Context) {
	f, err := config.Load(c.config)
	// Only the table of the agent that the caller means, and only root can: everybody else gets the error of no
	// agent.
	if err != nil || f.Socket != c.socket || f.Enforce.Driver != "nftables" || os.Geteuid() != 0 {
		return
	}
	if err := enforce.RemoveTable(ctx, f.Enforce.NetNS); err != nil {
		c.warn("what is banned is still dropped in this machine's kernel: %v", err)
		return
	}
	fmt.Fprintln(c.out, "no agent runs here; this machine's kernel drops nothing for it any more")
}
