package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/urfave/cli/v2"

	"banmesh/internal/nearest"
	"banmesh/mesh/control"
)

// commands are all commands in the order in which help shows them.
func commands(c *console) []*cli.Command {
	return []*cli.Command{
		banCommand(c), unbanCommand(c), allowCommand(c), listCommand(c), whyCommand(c), historyCommand(c), statsCommand(c),
		statusCommand(c), membersCommand(c), monitorCommand(c),
		diffCommand(c), commitCommand(c), freezeCommand(c), thawCommand(c), revokeCommand(c),
		importCommand(c), exportCommand(c),
		agentCommand(c), initCommand(c), inviteCommand(c), joinCommand(c), leaveCommand(c), forgetCommand(c), keygenCommand(c), keyringCommand(c), configCommand(c), doctorCommand(c),
		fail2banCommand(c), conductorCommand(c), demoCommand(c), benchCommand(c),
		versionCommand(c), completionCommand(c), manCommand(c),
	}
}

// newApp turns off what the library does by itself: it would print usage errors, exit, and add a help
// command. exitCode and console do that, in one way for all commands.
func newApp(c *console) *cli.App {
	app := &cli.App{
		Name:            "banmesh",
		Usage:           "a ban made on one router protects every router",
		UsageText:       "banmesh COMMAND [flags] [arguments]",
		Description:     "Every command has --help with an example. Flags may come before or after the other arguments.\n\nExample:\n   banmesh ban 203.0.113.7 --for 2h && banmesh list",
		Commands:        commands(c),
		Writer:          c.out,
		ErrWriter:       c.errOut,
		HideHelpCommand: true,
		HideVersion:     true,
		ExitErrHandler:  func(*cli.Context, error) {},
		OnUsageError:    refuseUsage,
	}
	decorate(app.Commands)
	return app
}

// decorate is needed because the library does not hand these two settings down to subcommands.
func decorate(cmds []*cli.Command) {
	for _, cmd := range cmds {
		cmd.HideHelpCommand = true
		cmd.OnUsageError = refuseUsage
		decorate(cmd.Subcommands)
	}
}

func refuseUsage(_ *cli.Context, err error, _ bool) error { return flagError(err) }

// runApp puts the arguments into the order that the library takes before it sees them.
func (c *console) runApp(ctx context.Context, args []string) error {
	app := newApp(c)
	words, err := arrange(app.Commands, args)
	if err != nil {
		return err
	}
	return app.RunContext(ctx, append([]string{"banmesh"}, words...))
}

// arrange finds the command that args name and puts its arguments into the order that the library takes.
// The library takes flags before the other arguments only; people write them anywhere.
func arrange(cmds []*cli.Command, args []string) ([]string, error) {
	var early []string
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch name, _, hasValue := strings.Cut(strings.TrimLeft(args[0], "-"), "="); {
		case name == "help" || name == "h":
			// Whatever follows: help with everything is what was asked for.
			return []string{"--help"}, nil
		case name == "version" || name == "v":
			return []string{"version"}, nil
		// Here as well, so that an alias can set it: all commands that ask the agent have it.
		case name == "socket" && hasValue:
			early, args = append(early, args[0]), args[1:]
		case name == "socket" && len(args) > 1:
			early, args = append(early, args[:2]...), args[2:]
		default:
			return nil, usagef("%s before the command: flags belong after it, as in banmesh list --json", control.Show(args[0]))
		}
	}
	if len(args) == 0 {
		return nil, usagef("no command given: banmesh --help lists them")
	}
	// `banmesh help ban` is `banmesh ban --help`: the library's own help command is off, see newApp.
	if args[0] == "help" {
		args = append(append([]string{}, args[1:]...), "--help")
	}
	var path []string
	var cmd *cli.Command
	for {
		if len(args) == 0 {
			return nil, usagef("%s needs one of: %s", strings.Join(path, " "), names(cmds))
		}
		// Before a subcommand is looked for: after a command that only has subcommands it would be an unknown
		// one.
		if args[0] == "--help" || args[0] == "-h" {
			return append(path, "--help"), nil
		}
		// A flag between a command and its own: its value is not one of them.
		if cmd != nil && strings.HasPrefix(args[0], "-") {
			// Whether it takes a value is not known before the subcommand is. The next word is taken for its
			// value unless that can be the subcommand, or no word would be left to be one.
			n := 1
			if !strings.Contains(args[0], "=") && len(args) > 2 && !strings.HasPrefix(args[1], "-") && findCommand(cmds, args[1]) == nil {
				n = 2
			}
			early, args = append(early, args[:n]...), args[n:]
			continue
		}
		next := findCommand(cmds, args[0])
		if next == nil && cmd == nil {
			return nil, usagef("unknown command %s: %sbanmesh --help lists them", control.Show(args[0]), meant(cmds, args[0]))
		}
		if next == nil {
			return nil, usagef("unknown command %s %s: %swant one of: %s", strings.Join(path, " "), control.Show(args[0]), meant(cmds, args[0]), names(cmds))
		}
		path, args, cmd = append(path, next.Name), args[1:], next
		if len(cmd.Subcommands) == 0 {
			break
		}
		cmds = cmd.Subcommands
	}
	a, err := split(cmd.Flags, append(early, args...))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(path, " "), err)
	}
	// The other words are dropped, so that help is shown whatever they are.
	if a.help {
		return append(path, "--help"), nil
	}
	return append(path, a.words()...), nil
}

func findCommand(cmds []*cli.Command, name string) *cli.Command {
	for _, cmd := range cmds {
		if cmd.HasName(name) {
			return cmd
		}
	}
	return nil
}

// meant asks for the command whose name is most like what was given, "" where none is like it.
// Wrong spellings are common, and the whole list of commands helps less than one word.
func meant(cmds []*cli.Command, given string) string {
	var known []string
	for _, cmd := range cmds {
		if !cmd.Hidden {
			known = append(known, cmd.Name)
		}
	}
	return didYouMean("", known, given)
}

// didYouMean asks for the known word that is most like the one given; "" where none is.
func didYouMean(dashes string, known []string, given string) string {
	best := nearest.Word(known, given)
	if best == "" {
		return ""
	}
	return "did you mean " + dashes + best + "? "
}

// names is for "want one of …"; hidden commands are not offered.
func names(cmds []*cli.Command) string {
	var s []string
	for _, cmd := range cmds {
		if !cmd.Hidden {
			s = append(s, cmd.Name)
		}
	}
	return strings.Join(s, ", ")
}

// positional refuses a number of arguments that a command does not take; max < 0 is any number.
func positional(cc *cli.Context, min, max int) ([]string, error) {
	args := cc.Args().Slice()
	if len(args) < min {
		return nil, usagef("%s: an argument is missing: see --help", cc.Command.Name)
	}
	if max >= 0 && len(args) > max {
		return nil, usagef("%s: unexpected argument %s", cc.Command.Name, control.Show(args[max]))
	}
	return args, nil
}

// optionalPrefix returns the prefix that is the only argument, the zero one where there is none. Host bits are
// cleared without a word: these commands only look something up.
func optionalPrefix(cc *cli.Context) (p netip.Prefix, err error) {
	args, err := positional(cc, 0, 1)
	if err != nil || len(args) == 0 {
		return p, err
	}
	ps, err := parsePrefixes(args, true)
	if err != nil {
		return p, err
	}
	return ps[0], nil
}
