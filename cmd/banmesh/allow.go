package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"banmesh/internal/excerpt"
	"banmesh/mesh/control"
)

func allowCommand(c *console) *cli.Command {
	return &cli.Command{
		Name: "allow", Category: "Bans", Usage: "manage the allow-list: addresses that no ban touches, on every router",
		Description: "Example:\n   banmesh allow add 198.51.100.0/24 --comment \"our office\"",
		Subcommands: []*cli.Command{allowAddCommand(c), allowRemoveCommand(c), allowListCommand(c)},
	}
}

// allowAddCommand asks about what is wider than /8: one such allow undoes bans on every router. Without a
// terminal --yes answers, see confirm.
func allowAddCommand(c *console) *cli.Command {
	length := duration(control.Forever)
	var comment text
	var force bool
	return &cli.Command{
		Name: "add", Usage: "allow addresses: bans of them have no effect", ArgsUsage: "PREFIX...",
		Description: "Bans of allowed addresses are kept but have no effect. Asks first if a prefix is wider than /8.\n\n" +
			"Example:\n   banmesh allow add 198.51.100.7 --for 1d --comment \"a customer's scanner\"",
		Flags: []cli.Flag{
			&cli.GenericFlag{Name: "for", Value: &length, Usage: "how long: `DURATION` like 2h, 1d, or -1 for without end"},
			&cli.GenericFlag{Name: "comment", Value: &comment, Usage: "`TEXT` for other operators"},
			&cli.BoolFlag{Name: "force", Destination: &force, Usage: "clear host bits"},
			c.yesFlag(), c.socketFlag(),
		},
		Action: func(cc *cli.Context) error {
			args, err := positional(cc, 1, -1)
			if err != nil {
				return err
			}
			ps, err := parsePrefixes(args, force)
			if err != nil {
				return err
			}
			call := control.AllowCall{Prefixes: ps, Until: length.until(c.now()), Comment: string(comment)}
			for _, p := range ps {
				if p.Bits() < 8 {
					// One question is enough: what is confirmed is the call as a whole.
					if err := c.confirm("allow " + p.String()); err != nil {
						return err
					}
					call.Confirmed = true
					break
				}
			}
			var r control.AllowReply
			err = c.ask(cc.Context, answerTime, func(ctx context.Context, cl *control.Client) error {
				var err error
				r, err = cl.Allow(ctx, call)
				return err
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(c.out, "%s allowed, %s; %s\n", shorten(ps), c.untilWords(call.Until), excerpt.Count(r.Covered, "ban is touched by it", "bans are touched by it"))
			return nil
		},
	}
}

// untilWords completes a sentence: "without end" needs no "until" before it.
func (c *console) untilWords(u control.Until) string {
	if u == control.Never {
		return u.String()
	}
	return "until " + c.end(u)
}

// allowRemoveCommand also ends what other members allowed, and says what it could not end: an address that
// stays allowed although the operator removed it is worse than an error.
func allowRemoveCommand(c *console) *cli.Command {
	return &cli.Command{
		Name: "remove", Aliases: []string{"rm"}, Usage: "remove addresses from the allow-list", ArgsUsage: "PREFIX...",
		Description: "Live bans of these addresses take effect again at once.\n\n" +
			"Example:\n   banmesh allow remove 198.51.100.7",
		Flags: []cli.Flag{c.socketFlag()},
		Action: func(cc *cli.Context) error {
			args, err := positional(cc, 1, -1)
			if err != nil {
				return err
			}
			ps, err := parsePrefixes(args, false)
			if err != nil {
				return err
			}
			var r control.DropAllowReply
			err = c.ask(cc.Context, answerTime, func(ctx context.Context, cl *control.Client) error {
				var err error
				r, err = cl.DropAllow(ctx, control.DropAllowCall{Prefixes: ps})
				return err
			})
			if err != nil {
				return err
			}
			if r.Dropped > 0 {
				fmt.Fprintf(c.out, "%d taken out of the allow-list\n", r.Dropped)
			}
			// Either is exit 1, and both are told.
			var missing, limited error
			if len(r.Missing) > 0 {
				missing = fmt.Errorf("not in the allow-list: %s", shorten(r.Missing))
			}
			if r.Limited > 0 {
				limited = fmt.Errorf("%d others' are still in it: limits.lifts_per_minute_per_origin lets no more of them end now; run the command again in a minute", r.Limited)
			}
			return errors.Join(missing, limited)
		},
	}
}

func allowListCommand(c *console) *cli.Command {
	return &cli.Command{
		Name: "list", Aliases: []string{"ls"}, Usage: "show the allow-list",
		Description: "Example:\n   banmesh allow list --json",
		Flags:       []cli.Flag{c.jsonFlag(), c.socketFlag()},
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			return show(cc.Context, c, (*control.Client).Allows, c.printAllows)
		},
	}
}

// ignored says after a record why it does not count.
func ignored(why string) string {
	if why == "" {
		return ""
	}
	return " (does not count: " + why + ")"
}

// printAllows marks allows that do not count, with the reason, since they look like the others otherwise.
func (c *console) printAllows(allows []control.Allow) error {
	if len(allows) == 0 {
		_, err := fmt.Fprintln(c.out, "nothing is allowed")
		return err
	}
	t := &table{}
	t.head("PREFIX", "SINCE", "LEFT", "BY", "COMMENT")
	for _, a := range allows {
		t.row(cell{text: control.Bare(a.Prefix)}, cell{text: c.moment(a.Since)}, cell{text: left(a.Until, c.now())}, cell{text: a.Origin}, cell{text: a.Comment + ignored(a.Ignored)})
	}
	return t.write(c.out, c.paint)
}
