package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
)

// defaultImport is how long what a published list names stays banned: until its next edition, as most appear daily.
const defaultImport = 24 * 60 * 60 * 1e9

func importCommand(c *console) *cli.Command {
	b := &ban{length: duration(defaultImport), jail: "import"}
	var skip bool
	return &cli.Command{
		Name: "import", Category: "Bans", Usage: "ban what a published list names", ArgsUsage: "FILE|-",
		Description: "One prefix a line; # and ; begin a comment, and what follows the first word is ignored. Importing the same list again extends\nits bans; what is no longer in it expires.\n\n" +
			"Example:\n   curl -s https://lists.example.net/drop.txt | banmesh import - --jail drop --for 1d",
		Flags: []cli.Flag{
			&cli.GenericFlag{Name: "for", Value: &b.length, Usage: "how long: `DURATION` like 2h, 1d, or -1 for without end"},
			&cli.GenericFlag{Name: "jail", Value: &b.jail, Usage: "`NAME` under which they are kept"},
			&cli.GenericFlag{Name: "reason", Value: &b.reason, Usage: "`TEXT` for the people who will wonder"},
			&cli.BoolFlag{Name: "force", Destination: &b.force, Usage: "also prefixes wider than /16 (IPv6 /32) and where you are logged in from; host bits cleared"},
			&cli.BoolFlag{Name: "skip", Destination: &skip, Usage: "leave out the lines that cannot be banned instead of refusing the list"},
			c.socketFlag(), c.spoolFlag(&b.spool),
		},
		Action: func(cc *cli.Context) error {
			args, err := positional(cc, 1, 1)
			if err != nil {
				return err
			}
			ps, bad, err := c.readList(args[0], b.force, skip)
			if err != nil {
				return err
			}
			if skip && !b.force {
				ps, bad = leaveOutWide(ps, bad)
			}
			if len(bad) > 0 {
				c.warn("note: %d lines left out, the first: %s", len(bad), oneLine(bad[0]))
			}
			if err := b.refuse(c, ps); err != nil {
				return err
			}
			call := control.BanCall{Jail: string(b.jail), Until: b.length.until(c.now()), Reason: string(b.reason), Force: b.force}
			return c.banAll(cc.Context, ps, call, b.spool)
		},
	}
}

func leaveOutWide(ps control.Prefixes, bad []error) (control.Prefixes, []error) {
	kept := ps[:0]
	for _, p := range ps {
		if control.Wide(p) {
			bad = append(bad, fmt.Errorf("%s is wider than /16 (IPv4) or /32 (IPv6)", p))
			continue
		}
		kept = append(kept, p)
	}
	return kept, bad
}
