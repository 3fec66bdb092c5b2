package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"banmesh/internal/excerpt"
	"banmesh/mesh/control"
)

// whyCommand asks once more, whether there is a conductor at all, only if the prefix is not committed:
// without one "not committed" would be an alarm about nothing.
func whyCommand(c *console) *cli.Command {
	return &cli.Command{
		Name: "why", Category: "Bans", Usage: "show everything that covers an address or network", ArgsUsage: "IP|PREFIX",
		Description: "Shows which routers banned it, in which jails, from when until when and how often; who lifted or allowed it, and when; whether the\n" +
			"ban is in effect; and whether it is committed, since when (at the latest), or waits for its quorum. For a network: what covers all of\n" +
			"it, what exempts a part of it, and how many addresses inside are banned. banmesh history shows bans that ended long ago.\n\n" +
			"Example:\n   banmesh why 203.0.113.7\n   banmesh why 203.0.113.0/24",
		Flags: []cli.Flag{c.jsonFlag(), c.socketFlag()},
		Action: func(cc *cli.Context) error {
			args, err := positional(cc, 1, 1)
			if err != nil {
				return err
			}
			ps, err := parsePrefixes(args, true)
			if err != nil {
				return err
			}
			without := false
			get := func(cl *control.Client, ctx context.Context) (control.Why, error) {
				y, err := cl.Why(ctx, ps[0])
				// Within the deadline of the call, and only for people: JSON has the fields.
				without = err == nil && !c.json && !y.Committed && withoutConductor(ctx, cl)
				return y, err
			}
			return show(cc.Context, c, get, func(y control.Why) error { return c.printWhy(y, without) })
		},
	}
}

// printWhy answers in one line first and gives the grounds below it: bans, lifts, allows, never-bans, all of
// them, also what has ended or does not count.
func (c *console) printWhy(y control.Why, without bool) error {
	fmt.Fprintf(c.out, "%s %s\n", c.paint(bold, y.IP), c.verdict(y, without))
	if place := y.Place.Words(); place != "" {
		fmt.Fprintf(c.out, "  belongs to: %s\n", place)
	}
	if len(y.Bans) > 0 {
		t := &table{}
		t.head("  BAN OF", "BY", "JAIL", "START", "UNTIL", "FAILURES", "STATE", "REASON")
		for _, b := range y.Bans {
			state := cell{b.State, dim}
			if b.State == "live" {
				state = cell{b.State, green}
			}
			if len(b.LiftedBy) > 0 {
				state.text += " by " + few(b.LiftedBy)
			}
			t.row(cell{text: "  " + control.Bare(b.Prefix)}, cell{text: b.Origin}, cell{text: b.Jail}, cell{text: c.moment(b.Start)}, cell{text: c.end(b.Until)},
				cell{text: fmt.Sprint(b.Failures)}, state, cell{text: b.Reason})
		}
		if err := t.write(c.out, c.paint); err != nil {
			return err
		}
	}
	for _, l := range y.Lifts {
		offences := ""
		if l.Offences > 0 { // none where newer bans have taken the place of those that it lifted
			offences = " (" + excerpt.Count(l.Offences, "offence", "offences") + ")"
		}
		fmt.Fprintf(c.out, "  unbanned: %s by %s%s%s%s\n", control.Bare(l.Prefix), l.Origin, c.when(" at ", l.Time), offences, ignored(l.Ignored))
	}
	for _, a := range y.Allows {
		end := c.end(a.Until)
		if a.Until != control.Never {
			end = "until " + end
		}
		fmt.Fprintf(c.out, "  allowed: %s by %s%s, %s", control.Bare(a.Prefix), a.Origin, c.when(" since ", a.Since), end)
		if a.Comment != "" {
			fmt.Fprintf(c.out, " (%s)", a.Comment)
		}
		fmt.Fprintln(c.out, ignored(a.Ignored))
	}
	for _, s := range y.NeverBans {
		fmt.Fprintf(c.out, "  never banned: %s, says %s%s\n", control.Bare(s.Prefix), s.Origin, ignored(s.Ignored))
	}
	if y.Inside > 0 {
		fmt.Fprintf(c.out, "  inside: %s banned; banmesh list %s shows them\n", excerpt.Count(y.Inside, "smaller one", "smaller ones"), y.IP)
	}
	return nil
}

// verdict sums up in one sentence what is known; without leaves the conductor out, for a mesh that has none.
func (c *console) verdict(y control.Why, without bool) string {
	conductor := ", not at the conductor"
	switch {
	case without:
		conductor = ""
	case y.WaitsForQuorum != nil:
		conductor += ": " + quorumWords(y.WaitsForQuorum) + " in the jail " + y.WaitsForQuorum.Jail
	}
	if y.Committed {
		conductor = ", at the conductor"
		if y.CommittedSince != 0 {
			conductor += " since " + c.moment(y.CommittedSince)
		}
	}
	switch {
	case len(y.Except) > 0:
		return c.paint(red, "is banned") + " except " + exceptions(y.Except) + seenWords(y) + conductor
	case y.Effective:
		return c.paint(red, "is banned") + seenWords(y) + conductor
	case y.Banned:
		return c.paint(yellow, "is banned, and that does not count: "+y.ReasonNotEffective) + seenWords(y) + conductor
	// That something is at the conductor which nothing bans is worth a word; that it is not there goes without
	// saying.
	case !y.Known:
		return "is unknown: no ban, unban, allow or never-ban covers it" + map[bool]string{true: conductor}[y.Committed]
	}
	return "is not banned" + seenWords(y) + map[bool]string{true: conductor}[y.Committed]
}

// exceptions names the first of what is exempt.
func exceptions(ps control.Prefixes) string {
	var s []string
	for _, p := range ps {
		s = append(s, control.Bare(p.String()))
	}
	return few(s)
}

// seenWords says how bad an offender it is, as far as the mesh remembers.
func seenWords(y control.Why) string {
	if y.Times == 0 {
		return ""
	}
	return fmt.Sprintf(" (seen by %s, %s)", excerpt.Count(y.Origins, "router", "routers"), excerpt.Count(y.Times, "time", "times"))
}
