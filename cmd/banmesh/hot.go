package main

import (
	"context"

	"github.com/urfave/cli/v2"
)

// hotCommand returns what builds the command that args name, where it is one that must be done in milliseconds: only
// that one is built then, and no application around it.
func hotCommand(args []string) func(*console) *cli.Command {
	if len(args) == 0 {
		return nil
	}
	switch args[0] {
	case "ban":
		return banCommand
	case "unban":
		return unbanCommand
	}
	return nil
}

// runHot runs a command of fail2ban's hooks without the library's application, whose set-up of all commands takes longer than
// the ban. Help is the application's business.
func (c *console) runHot(ctx context.Context, cmd *cli.Command, args []string) error {
	a, err := split(cmd.Flags, args[1:])
	if err != nil {
		return err
	}
	if a.help {
		return c.runApp(ctx, args)
	}
	set, err := parse(cmd, a)
	if err != nil {
		return err
	}
	// No application: the action of a hot command may use the context, the arguments and whether a flag is set,
	// and nothing of cc.App.
	cc := cli.NewContext(nil, set, nil)
	cc.Context, cc.Command = ctx, cmd
	return cmd.Action(cc)
}
