package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
	"banmesh/mesh/hook"
)

// fail2banCommand has the hooks for their help and for action files that name banmesh; the shipped one names
// banmesh-hook, which starts faster. Package hook does the work for both.
func fail2banCommand(c *console) *cli.Command {
	cmd := &cli.Command{
		Name: "fail2ban", Category: "fail2ban", Usage: "hooks of the fail2ban action; check the local fail2ban, import its bans",
		Description: "fail2ban calls start, stop, flush, ban, prolong and unban: they print nothing, end within a second whatever the agent does, and exit 0\nunless misused. A call that reaches no agent waits in the spool. import and check are for people.\n\n" +
			"Example:\n   banmesh fail2ban ban --jail=\"sshd\" --ip=\"203.0.113.7\" --time=\"1767225600\" --bantime=\"600\" --failures=\"5\" --restored=\"0\"",
	}
	for _, e := range hook.Events {
		cmd.Subcommands = append(cmd.Subcommands, hookCommand(c, e.Event, e.Usage))
	}
	cmd.Subcommands = append(cmd.Subcommands, fail2banImportCommand(c), fail2banCheckCommand(c))
	return cmd
}

// hookCommand is a hook with its help; runHook does it.
func hookCommand(c *console, event control.HookEvent, usage string) *cli.Command {
	example := fmt.Sprintf("banmesh fail2ban %s --jail=\"<name>\"", event)
	if hook.OfAddress(event) {
		example += " --ip=\"<ip>\" --time=\"<time>\" --bantime=\"<bantime>\" --failures=\"<failures>\" --restored=\"<restored>\""
	}
	cmd := &cli.Command{
		Name: string(event), Usage: usage,
		Description: "Example, as the action file has it:\n   " + example,
		Action: func(cc *cli.Context) error {
			words := []string{string(event)}
			for _, f := range hook.Flags {
				if cc.IsSet(f.Name) {
					words = append(words, "--"+f.Name+"="+cc.String(f.Name))
				}
			}
			return c.runHook(cc.Context, append(append(words, "--"), cc.Args().Slice()...))
		},
	}
	for _, f := range hook.Flags {
		cmd.Flags = append(cmd.Flags, &cli.StringFlag{Name: f.Name, Usage: f.Usage})
	}
	return cmd
}

// runHook runs a hook from its words: its name, and its flags.
func (c *console) runHook(ctx context.Context, words []string) error {
	code, err := hook.Run(ctx, words, hook.Env{Getenv: c.getenv, Stderr: c.errOut, Now: c.now, Syslog: c.syslog, SpoolOf: c.spoolOf})
	if err != nil || code == exitDone {
		return err
	}
	return exitStatus(code)
}
