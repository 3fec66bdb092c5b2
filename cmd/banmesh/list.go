package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
)

// listTime bounds the reading of a long list, whose length is the terminal's as well as the agent's.
const listTime = 2 * time.Minute

func formatFlag(to *string) cli.Flag {
	return &cli.StringFlag{Name: "format", Destination: to, Usage: "`FORMAT`: plain (one prefix a line), csv or json"}
}

func listCommand(c *console) *cli.Command {
	var format string
	return &cli.Command{
		Name: "list", Category: "Bans", Usage: "show what is banned", ArgsUsage: "[PREFIX]",
		Description: "With a prefix: the bans of it, of what covers it and of what is inside.\n\n" +
			"Example:\n   banmesh list\n   banmesh list 203.0.113.0/24 --json",
		Flags: []cli.Flag{c.jsonFlag(), formatFlag(&format), c.socketFlag()},
		Action: func(cc *cli.Context) error {
			args, err := positional(cc, 0, 1)
			if err != nil {
				return err
			}
			var prefix netip.Prefix
			if len(args) == 1 {
				ps, err := parsePrefixes(args, true)
				if err != nil {
					return err
				}
				prefix = ps[0]
			}
			if c.json {
				format = formatJSON
			}
			return c.list(cc.Context, prefix, format)
		},
	}
}

func (c *console) list(ctx context.Context, prefix netip.Prefix, format string) error {
	return c.ask(ctx, listTime, func(ctx context.Context, cl *control.Client) error {
		out := bufio.NewWriterSize(c.out, 64<<10)
		defer out.Flush()
		switch format {
		case formatJSON:
			return cl.ListJSON(ctx, prefix, out)
		case formatTable, "":
			return c.listTable(ctx, cl, prefix, out)
		}
		w, err := newBanWriter(format, out)
		if err != nil {
			return err
		}
		if err := cl.List(ctx, prefix, w.write); err != nil {
			return err
		}
		return w.end()
	})
}

func (c *console) listTable(ctx context.Context, cl *control.Client, prefix netip.Prefix, to io.Writer) error {
	now := c.now()
	t := &table{}
	t.head("PREFIX", "LEFT", "ROUTERS", "JAILS", "CONDUCTOR", "STATE")
	n := 0
	err := cl.List(ctx, prefix, func(b control.Ban) error {
		n++
		var origins, jails []string
		for _, r := range b.Records {
			origins, jails = appendNew(origins, r.Origin), appendNew(jails, r.Jail)
		}
		committed := cell{"no", dim}
		if b.Committed {
			committed = cell{"yes", plain}
		}
		if w := b.WaitsForQuorum; w != nil {
			committed = cell{quorumWords(w), yellow}
		}
		state := cell{"effective", green}
		switch {
		case !b.Effective:
			state = cell{"not effective: " + b.ReasonNotEffective, yellow}
		case len(b.Except) > 0:
			state = cell{"effective, except " + shorten(b.Except), yellow}
		}
		t.row(cell{text: bare(b.Prefix)}, cell{text: left(b.Until, now)}, cell{text: few(origins)}, cell{text: few(jails)}, committed, state)
		return nil
	})
	if err != nil {
		return err
	}
	if n == 0 {
		_, err := fmt.Fprintln(to, "no bans")
		return err
	}
	return t.write(to, c.paint)
}

// quorumWords says what keeps a ban from the conductor.
func quorumWords(w *control.QuorumWait) string {
	return fmt.Sprintf("waits for quorum (%d of %d routers)", w.Seen, w.Needed)
}

// left says how much of a ban is to come.
func left(u control.Until, now time.Time) string {
	if u == control.Never {
		return "for ever"
	}
	d := u.Time().Sub(now)
	if d <= 0 {
		return "0s"
	}
	return formatDuration(max(d.Truncate(time.Second), time.Second))
}

func appendNew(s []string, v string) []string {
	if slices.Contains(s, v) {
		return s
	}
	return append(s, v)
}

// few joins a list for one cell of a table.
func few(s []string) string {
	if len(s) > 3 {
		return strings.Join(s[:3], ",") + fmt.Sprintf(" +%d", len(s)-3)
	}
	return strings.Join(s, ",")
}
