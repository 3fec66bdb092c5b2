package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
	"banmesh/mesh/invite"
)

// joinTime bounds a join: members that do not answer are tried one after the other.
const joinTime = time.Minute

// joinCommand is two commands in one, as serf and consul have the second: a token is told from an address by
// its prefix.
func joinCommand(c *console) *cli.Command {
	var s setup
	return &cli.Command{
		Name: "join", Category: "Mesh", Usage: "join a mesh with a token, or add members to the running agent", ArgsUsage: "TOKEN|ADDR...",
		Description: "With a token of banmesh invite, as root, on a machine that has the package: fetches the mesh's keys and settings, writes the\n" +
			"configuration, has fail2ban share what it bans, starts the agent, and waits until it is in sync. Existing files stay. It says what\n" +
			"it does, is safe to run again, and banmesh leave --uninstall undoes it. - reads the token from standard input.\n\n" +
			"With addresses: one member suffices to meet all. Those that answer are remembered over restarts, and tried again while they are unreachable.\n\n" +
			"Example:\n   banmesh join banmesh1-REPLACE_ME\n   banmesh join router2:7946 192.0.2.3:7946",
		Flags: append(s.flags(c), c.socketFlag()),
		Action: func(cc *cli.Context) error {
			args, err := positional(cc, 1, -1)
			if err != nil {
				return err
			}
			if len(args) == 1 && (args[0] == "-" || invite.IsToken(args[0])) {
				return s.join(cc, c, args[0])
			}
			// An agent that runs has these settings already, and would ignore them without a word.
			if set := s.given(cc); set != "" {
				return usagef("join: --%s is for joining by a token", set)
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
			// Still exit 1 although the agent goes on trying: a script must know that nobody was met.
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
