package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"banmesh/internal/excerpt"
	"banmesh/mesh/control"
)

// statsCommand takes its numbers from the history, which is bounded: "remembered since" says how far they go
// back.
func statsCommand(c *console) *cli.Command {
	var since duration
	q := control.StatsQuery{}
	return &cli.Command{
		Name: "stats", Category: "Bans", Usage: "count current and past bans",
		Description: "Each offence counts once, whether its ban is live or has ended. Networks are /24 and /48; repeaters are prefixes that were banned more\n" +
			"than once; days are in UTC. If the configuration's geo section names databases, stats also shows autonomous systems and countries.\n\n" +
			"Example:\n   banmesh stats\n   banmesh stats --since 7d --top 20\n   banmesh stats --json",
		Flags: []cli.Flag{
			c.jsonFlag(),
			&cli.GenericFlag{Name: "since", Value: &since, Usage: "only the last `DURATION`"},
			&cli.IntFlag{Name: "top", Value: 10, Destination: &q.Top, Usage: "show the first `N` of each list"},
			c.socketFlag(),
		},
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			if since > 0 {
				q.Since = control.At(c.now().Add(-since.length()))
			}
			// The agent takes 0 for its default, which --top 0 does not ask for.
			if err := q.Validate(); err != nil || q.Top == 0 {
				return usagef("stats: --top %d: want a number from 1 to 1000", q.Top)
			}
			get := func(cl *control.Client, ctx context.Context) (control.Stats, error) { return cl.Stats(ctx, q) }
			return show(cc.Context, c, get, c.printStats)
		},
	}
}

// printStats leaves out tables without rows. The heads keep their order, so that the eye finds them again.
func (c *console) printStats(s control.Stats) error {
	fmt.Fprintf(c.out, "%s: %d live, %d over; %d lifted, %d expired; from %s\n",
		excerpt.Count(s.Bans.Total, "offence", "offences"), s.Bans.Live, s.Bans.Past, s.Lifts, s.Expired, excerpt.Count(s.Distinct, "network", "networks"))
	if s.From != 0 {
		fmt.Fprintf(c.out, "remembered since %s\n", c.moment(s.From))
	}
	if s.Unplaced != "" {
		c.warn("%s", s.Unplaced)
	}
	number := func(n int) cell { return cell{text: fmt.Sprint(n)} }
	shares := func(b control.Share) []cell { return []cell{number(b.Total), number(b.Live), number(b.Past)} }
	named := func(title string, list []control.NamedShare) *table {
		t := &table{}
		t.head(title, "OFFENCES", "LIVE", "OVER")
		for _, n := range list {
			t.row(append([]cell{{text: n.Name}}, shares(n.Share)...)...)
		}
		return t
	}
	networks := &table{}
	networks.head(networkColumns(s.Networks)...)
	for _, n := range s.Networks {
		networks.row(append(append([]cell{{text: n.Prefix}}, shares(n.Share)...), cell{text: n.System()}, cell{text: n.Country})...)
	}
	repeaters := &table{}
	repeaters.head("REPEATER", "TIMES", "LAST", "NOW")
	for _, r := range s.Repeaters {
		now := cell{"", plain}
		if r.Live {
			now = cell{"banned", red}
		}
		repeaters.row(cell{text: control.Bare(r.Prefix)}, number(r.Times), cell{text: c.moment(r.Last)}, now)
	}
	days := &table{}
	days.head("DAY (UTC)", "BANS", "LIFTED", "EXPIRED")
	for _, d := range s.Days {
		days.row(cell{text: d.Day}, number(d.Bans), number(d.Lifts), number(d.Expired))
	}
	systems := &table{}
	systems.head("AS", "OFFENCES", "LIVE", "OVER")
	for _, a := range s.ASNs {
		systems.row(append([]cell{{text: control.Place{ASN: a.ASN, ASName: a.Name}.System()}}, shares(a.Share)...)...)
	}
	for _, t := range []*table{named("JAIL", s.Jails), named("ROUTER", s.Routers), networks, repeaters, systems, named("COUNTRY", s.Countries), days} {
		// Only the head.
		if len(t.rows) < 2 {
			continue
		}
		fmt.Fprintln(c.out)
		if err := t.write(c.out, c.paint); err != nil {
			return err
		}
	}
	return nil
}

// networkColumns leaves out the databases' columns where there is nothing in them.
func networkColumns(all []control.NetShare) []string {
	head := []string{"NETWORK", "OFFENCES", "LIVE", "OVER"}
	if slices.ContainsFunc(all, func(n control.NetShare) bool { return n.Place != control.Place{} }) {
		head = append(head, "AS", "COUNTRY")
	}
	return head
}
