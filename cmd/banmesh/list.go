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

// listing is what the flags of list say.
type listing struct {
	format    string
	jail      jail
	origin    string
	since     duration
	until     duration
	effective bool
	not       bool
	sort      string
	limit     int
}

// listCommand leaves filtering, sorting and cutting to the agent, so that a list of a million is not sent to
// show twenty.
func listCommand(c *console) *cli.Command {
	l := &listing{}
	return &cli.Command{
		Name: "list", Category: "Bans", Usage: "show what is banned", ArgsUsage: "[PREFIX]",
		Description: "With a prefix: the bans of it, of what covers it and of what is inside. Flags narrow that further: one offence must fit\n" +
			"--jail, --origin, --since and --until together.\n\n" +
			"Example:\n   banmesh list\n   banmesh list 203.0.113.0/24 --json\n   banmesh list --jail sshd --since 1h --sort start --limit 20\n   banmesh list --not-effective -o csv",
		Flags: []cli.Flag{
			c.jsonFlag(),
			&cli.StringFlag{Name: "output", Aliases: []string{"o", "format"}, Destination: &l.format, Usage: "`FORMAT`: table, plain (one prefix a line), csv or json"},
			&cli.GenericFlag{Name: "jail", Value: &l.jail, Usage: "only the jail `NAME`"},
			&cli.StringFlag{Name: "origin", Destination: &l.origin, Usage: "only what the router `NAME` banned"},
			&cli.GenericFlag{Name: "since", Value: &l.since, Usage: "only offences of the last `DURATION`"},
			&cli.GenericFlag{Name: "until", Value: &l.until, Usage: "only offences from before the last `DURATION`"},
			&cli.BoolFlag{Name: "effective", Destination: &l.effective, Usage: "only bans in effect"},
			&cli.BoolFlag{Name: "not-effective", Destination: &l.not, Usage: "only bans that an allow, a never-ban or a limit keeps from taking effect"},
			&cli.StringFlag{Name: "sort", Destination: &l.sort, Usage: "by `FIELD`: " + strings.Join(control.ListSorts, ", ")},
			&cli.IntFlag{Name: "limit", Destination: &l.limit, Usage: "at most `N` prefixes"},
			c.socketFlag(),
		},
		Action: func(cc *cli.Context) error {
			prefix, err := optionalPrefix(cc)
			if err != nil {
				return err
			}
			q, err := l.query(c, prefix)
			if err != nil {
				return err
			}
			if c.json {
				l.format = formatJSON
			}
			return c.list(cc.Context, q, l.format)
		},
	}
}

// query puts the flags into the agent's terms: it filters and sorts, so that a short answer from a million bans is short to
// send too.
func (l *listing) query(c *console, prefix netip.Prefix) (control.ListQuery, error) {
	q := control.ListQuery{Prefix: prefix, Jail: string(l.jail), Origin: l.origin, Sort: l.sort, Limit: l.limit}
	if l.effective && l.not {
		return q, usagef("list: --effective or --not-effective, not both")
	}
	if l.effective || l.not {
		q.Effective = &l.effective
	}
	ago := func(d duration) control.Time { return control.At(c.now().Add(-d.length())) }
	if l.since > 0 {
		q.Since = ago(l.since)
	}
	if l.until > 0 {
		q.Until = ago(l.until)
	}
	if err := q.Validate(); err != nil {
		return q, usagef("list: --%w", err)
	}
	return q, nil
}

// list writes while the agent sends. JSON passes through as it comes; only a table, whose columns depend on every row, is held
// in memory.
func (c *console) list(ctx context.Context, q control.ListQuery, format string) error {
	return c.ask(ctx, listTime, func(ctx context.Context, cl *control.Client) error {
		return c.buffered(func(out *bufio.Writer) error {
			switch format {
			case formatJSON:
				return cl.ListJSON(ctx, q, out)
			case formatTable, "":
				return c.listTable(ctx, cl, q, out)
			}
			w, err := newBanWriter(format, out)
			if err != nil {
				return err
			}
			if err := cl.List(ctx, q, w.write); err != nil {
				return err
			}
			return w.end()
		})
	})
}

// listTable leaves out the conductor's column where the mesh has none.
func (c *console) listTable(ctx context.Context, cl *control.Client, q control.ListQuery, to io.Writer) error {
	now := c.now()
	t := &table{}
	head := []string{"PREFIX", "LEFT", "ROUTERS", "JAILS", "CONDUCTOR", "STATE"}
	without := withoutConductor(ctx, cl)
	if without {
		head = slices.Delete(head, 4, 5)
	}
	t.head(head...)
	n := 0
	err := cl.List(ctx, q, func(b control.Ban) error {
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
		case b.Held:
			state = cell{"held: confirm with banmesh commit --force", yellow}
		case len(b.Except) > 0:
			state = cell{"effective, except " + shorten(b.Except), yellow}
		}
		row := []cell{{text: control.Bare(b.Prefix)}, {text: left(b.Until, now)}, {text: few(origins)}, {text: few(jails)}, committed, state}
		if without {
			row = slices.Delete(row, 4, 5)
		}
		t.row(row...)
		return nil
	})
	if err != nil {
		return err
	}
	if n == 0 {
		words := "no bans"
		// With a filter there may well be bans, only none like that.
		if q != (control.ListQuery{Sort: q.Sort, Limit: q.Limit}) {
			words = "no ban is like that"
		}
		_, err := fmt.Fprintln(to, words)
		return err
	}
	return t.write(to, c.paint)
}

// withoutConductor reports whether the mesh has no conductor, as far as the agent knows.
func withoutConductor(ctx context.Context, cl *control.Client) bool {
	s, err := cl.Status(ctx)
	// In doubt there is one: a column too many does no harm.
	return err == nil && s.Commit.State == "off"
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
	// Less than a second is rounded up, as 0s is what has ended.
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
