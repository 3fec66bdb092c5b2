package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
)

// pastShown is how many events history shows where no --limit is given.
const pastShown = 1000

// historyCommand shows what this router saw, in the order in which it saw it. Another one that was away
// meanwhile shows it otherwise.
func historyCommand(c *console) *cli.Command {
	var since duration
	var events cli.StringSlice
	var in jail
	q := control.HistoryQuery{}
	return &cli.Command{
		Name: "history", Category: "Bans", Usage: "show what was banned, including bans that have ended", ArgsUsage: "[IP|PREFIX]",
		Description: "The newest first, as this router has seen it: each ban, prolongation (extend), lift, expiry and allow. With a prefix:\n" +
			"events about it, about wider prefixes that cover it and about addresses inside it. The configuration's history section sets how much is kept.\n\n" +
			"Example:\n   banmesh history 203.0.113.7\n   banmesh history 203.0.113.0/24 --since 7d --event ban,lift\n   banmesh history --since 1h --json",
		Flags: []cli.Flag{
			c.jsonFlag(),
			&cli.GenericFlag{Name: "since", Value: &since, Usage: "only what was seen in the last `DURATION`"},
			&cli.IntFlag{Name: "limit", Value: pastShown, Destination: &q.Limit, Usage: fmt.Sprintf("the newest `N`; 0 means all, up to %d", control.MaxPast)},
			&cli.StringSliceFlag{Name: "event", Destination: &events, Usage: "only these `KINDS`: ban,extend,lift,expire,allow ..."},
			&cli.GenericFlag{Name: "jail", Value: &in, Usage: "only the jail `NAME`"},
			&cli.StringFlag{Name: "origin", Destination: &q.Origin, Usage: "only what the router `NAME` banned or allowed"},
			c.socketFlag(),
		},
		Action: func(cc *cli.Context) error {
			var err error
			if q.Prefix, err = optionalPrefix(cc); err != nil {
				return err
			}
			q.Jail, q.Kinds = string(in), events.Value()
			if since > 0 {
				q.Since = control.At(c.now().Add(-since.length()))
			}
			if err := q.Validate(); err != nil {
				return usagef("history: --%w", err)
			}
			return c.ask(cc.Context, listTime, func(ctx context.Context, cl *control.Client) error {
				h, err := cl.History(ctx, q)
				if err != nil {
					return err
				}
				return c.printHistory(h)
			})
		},
	}
}

// printHistory says that there is more on stderr, so that JSON on stdout stays JSON.
func (c *console) printHistory(h control.History) error {
	if c.json {
		if err := c.printJSON(h.Events); err != nil {
			return err
		}
	} else if err := c.historyTable(h); err != nil {
		return err
	}
	if h.More {
		c.warn("only the newest %d are shown: --limit N shows more, --since D and a prefix narrow it down", len(h.Events))
	}
	return nil
}

// historyTable names since when anything is remembered if there is nothing to show: an address without a
// history and a history without the address look alike.
func (c *console) historyTable(h control.History) error {
	if len(h.Events) == 0 {
		words := "nothing is remembered of that"
		if h.From != 0 {
			words += fmt.Sprintf("; the memory begins %s", c.moment(h.From))
		}
		_, err := fmt.Fprintln(c.out, words)
		return err
	}
	t := &table{}
	t.head("SEEN", "EVENT", "PREFIX", "ROUTER", "JAIL", "START", "UNTIL", "BY", "FAILURES", "REASON")
	for _, e := range h.Events {
		until, failures, reason := "", "", e.Reason
		// Only events about something that ends have one.
		if e.Until != nil {
			until = c.end(*e.Until)
		}
		if e.Failures > 0 {
			failures = fmt.Sprint(e.Failures)
		}
		// A gap stands where the events would, so that it is not taken for a time without any.
		if e.Lost > 0 {
			reason = fmt.Sprintf("%d events were not noted: too many at once, or the disk did not take them", e.Lost)
		}
		t.row(cell{text: c.moment(e.Time)}, cell{e.Event, eventColours[e.Event]}, cell{text: control.Bare(e.Prefix)}, cell{text: e.Origin}, cell{text: e.Jail},
			cell{text: c.moment(e.Start)}, cell{text: until}, cell{text: e.By}, cell{text: failures}, cell{text: reason})
	}
	return t.write(c.out, c.paint)
}

// moment is a time as a table shows it: local on a terminal, where somebody compares it with a clock, else UTC as in JSON.
func (c *console) moment(at control.Time) string {
	if at == 0 {
		return ""
	}
	if isTerminal(c.out) {
		return at.Time().Local().Format(time.DateTime)
	}
	return at.String()
}

// end is until when something lasts, as a table shows it.
func (c *console) end(until control.Until) string {
	if until == control.Never {
		return until.String()
	}
	return c.moment(control.Time(until))
}

// when is a moment after a word, nothing where the moment is not known.
func (c *console) when(word string, at control.Time) string {
	if at == 0 {
		return ""
	}
	return word + c.moment(at)
}
