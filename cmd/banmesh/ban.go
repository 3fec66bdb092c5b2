package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/internal/excerpt"
	"banmesh/mesh/control"
	"banmesh/mesh/spool"
)

// defaultBan is how long a ban lasts that does not say: long enough to stop an attack, short enough to forgive a slip.
const defaultBan = time.Hour

// maxAhead is how far in the future an offence may lie, for clocks that differ. One further ahead nearly always comes from a wrong
// clock or unit, and its ban would end far too late.
const maxAhead = 24 * time.Hour

// ban is what its flags say.
type ban struct {
	length   duration
	jail     jail
	start    seconds
	failures count
	restored binary
	reason   text
	force    bool
	file     string
	spool    string
	dryRun   bool
}

func dryRunFlag(to *bool) cli.Flag {
	return &cli.BoolFlag{Name: "dry-run", Destination: to, Usage: "only show what would change"}
}

// banCommand takes what a hand-written fail2ban action would pass, --start, --failures and --restored, beside
// what people use: such actions from before the hooks still work.
func banCommand(c *console) *cli.Command {
	b := &ban{length: duration(defaultBan)}
	return &cli.Command{
		Name: "ban", Category: "Bans", Usage: "ban addresses on every router", ArgsUsage: "PREFIX...",
		Description: "A bare address means /32 or /128. The ban is on this router's disk when the command returns, and at the others\n" +
			"milliseconds later. If no agent is reachable, the call waits in the spool.\n\n" +
			"Example:\n   banmesh ban 203.0.113.7 --for 2h --reason \"scans port 22\"\n   banmesh ban 2001:db8:bad::/48 --for 1w\n   banmesh ban --file list.txt --for 1d",
		Flags: []cli.Flag{
			&cli.GenericFlag{Name: "for", Value: &b.length, Usage: "how long from the start: `DURATION` like 90s, 10m, 2h, 1d, 1w, a number of seconds, or -1 for without end"},
			&cli.GenericFlag{Name: "jail", Value: &b.jail, Usage: "`NAME` of the fail2ban jail it belongs to; \"manual\" if not given"},
			&cli.GenericFlag{Name: "start", Value: &b.start, Usage: "when the offence was, `UNIX` seconds; now if not given"},
			&cli.GenericFlag{Name: "failures", Value: &b.failures, Usage: "`N` failures that led to it"},
			&cli.GenericFlag{Name: "restored", Value: &b.restored, Usage: "1 for a replay of a ban given before, `0|1`"},
			&cli.GenericFlag{Name: "reason", Value: &b.reason, Usage: "`TEXT` for other operators"},
			&cli.BoolFlag{Name: "force", Destination: &b.force, Usage: "wider than /16 (IPv6 /32), longer than bans.max_duration, host bits cleared, also where you are logged in from"},
			&cli.StringFlag{Name: "file", Destination: &b.file, Usage: "also the prefixes in `FILE`, one a line; - is the standard input"},
			dryRunFlag(&b.dryRun), c.socketFlag(), c.spoolFlag(&b.spool),
		},
		Action: func(cc *cli.Context) error { return b.run(cc.Context, c, cc.Args().Slice()) },
	}
}

// run turns the flags, which are also the words of fail2ban's action, into a call.
func (b *ban) run(ctx context.Context, c *console, args []string) error {
	now := c.now()
	// The end is counted from the offence: a prolongation or a replay then has the same end, however late it comes.
	start := b.start.at
	if start.IsZero() {
		start = now
	}
	if start.After(now.Add(maxAhead)) {
		return usagef("--start %d: more than 24 hours ahead", start.Unix())
	}
	ps, err := c.gather(args, b.file, b.force)
	if err != nil {
		return err
	}
	// An empty file is no misuse: a list that a script writes can be empty, and banAll says so.
	if len(ps) == 0 && b.file == "" {
		return usagef("ban: no address given: see banmesh ban --help")
	}
	if err := b.refuse(c, ps); err != nil {
		return err
	}
	// A start that was not given stays zero: the agent that answers takes it for a new offence, see started.
	call := control.BanCall{
		Jail: string(b.jail), Start: control.At(b.start.at), Until: b.length.until(start), Failures: uint32(b.failures),
		Reason: string(b.reason), Restored: bool(b.restored), Force: b.force, DryRun: b.dryRun,
	}
	return c.banAll(ctx, ps, call, b.spool)
}

// refuse is for what is hardly meant: --force is for what is.
func (b *ban) refuse(c *console, ps control.Prefixes) error {
	if b.force {
		return nil
	}
	for _, p := range ps {
		if control.Wide(p) {
			return usagef("%s is wider than /16 (IPv4) or /32 (IPv6): use --force to ban it anyway", p)
		}
	}
	// The agent refuses wide prefixes as well; where the caller is logged in from only this end can know.
	return c.refuseOwn(ps)
}

// banAll bans the prefixes with the attributes of call, in as many calls as they need.
func (c *console) banAll(ctx context.Context, ps control.Prefixes, call control.BanCall, dir string) error {
	if len(ps) == 0 {
		fmt.Fprintln(c.out, "nothing to ban: the list is empty")
		return nil
	}
	var calls []control.BanCall
	for _, part := range chunks(ps) {
		call.Prefixes = part
		calls = append(calls, call)
	}
	return c.banCalls(ctx, calls, dir)
}

// banCalls makes the calls, and says what became of all of them together.
func (c *console) banCalls(ctx context.Context, calls []control.BanCall, dir string) error {
	all, taken := 0, 0
	for i := range calls {
		all += len(calls[i].Prefixes) + len(calls[i].Each)
	}
	var total control.BanReply
	var kept error
	defer c.progress("")
	done := 0
	for i, call := range calls {
		if i > 0 {
			c.progress(fmt.Sprintf("%d of %d prefixes", done, all))
		}
		n := len(call.Prefixes) + len(call.Each)
		done += n
		tried := func(ctx context.Context, cl *control.Client) error {
			r, err := cl.Ban(ctx, call)
			if err == nil {
				total = add(total, r)
				taken += n
			}
			return err
		}
		if call.DryRun { // it says what is now; later is no use
			if err := c.ask(ctx, limitFor(n), tried); err != nil {
				return err
			}
			continue
		}
		spooled, err := c.deliver(ctx, limitFor(n), dir, spool.Entry{Time: c.now(), Ban: started(call, c.now())}, tried)
		if err != nil && !spooled {
			return err
		}
		// The others are still tried: one part that had to be spooled must not leave the list half done.
		if spooled {
			kept = err
		}
	}
	// Kept is as good as done for the caller, so this is a note and exit 0; one note, however many
	// parts of the list were kept.
	if kept != nil {
		c.warn("%s", oneLine(kept))
	}
	// Where all of it was kept, no agent has said yet what becomes of it.
	if taken > 0 {
		c.printBan(all, calls[0], total)
	}
	return nil
}

// started gives a call a start where it has none. A start names an offence; without one it is a new one, also where the
// last one was lifted a moment ago. What waits needs one.
func started(call control.BanCall, now time.Time) *control.BanCall {
	if call.Start == 0 {
		call.Start = control.At(now)
	}
	// A clone: an agent that answers gets the call as it is, without starts.
	call.Each = slices.Clone(call.Each)
	for i := range call.Each {
		if call.Each[i].Start == 0 {
			call.Each[i].Start = control.At(now)
		}
	}
	return &call
}

// add sums the answers to the calls of one long list. Of the ends only the latest is kept: the one line that
// is printed can name one.
func add(a, b control.BanReply) control.BanReply {
	a.New += b.New
	a.Extended += b.Extended
	a.Known += b.Known
	a.StaysLifted += b.StaysLifted
	a.Expired += b.Expired
	a.Lifted = append(a.Lifted, b.Lifted...)
	a.Exempted = append(a.Exempted, b.Exempted...)
	a.Until = max(a.Until, b.Until)
	a.ShortenedTo = max(a.ShortenedTo, b.ShortenedTo)
	return a
}

// printBan says what became of n bans, in a line for one prefix and in numbers for many. All calls are as the first.
func (c *console) printBan(n int, call control.BanCall, r control.BanReply) {
	would := ""
	if call.DryRun {
		would = "would be "
	}
	// An entry of a list with attributes of its own (call.Each) is told in numbers: its end is not in the
	// call's Until.
	if n == 1 && len(call.Prefixes) == 1 {
		fmt.Fprintf(c.out, "%s %s\n", control.Format(call.Prefixes[0]), c.fate(r, call.Until, would))
	} else {
		var parts []string
		for _, p := range []struct {
			n    int
			what string
		}{{r.New, would + "banned"}, {r.Extended, would + "extended"}, {r.Known, "banned already"}, {r.StaysLifted, "stay unbanned"}, {r.Expired, "with an end that is past"}} {
			if p.n > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
			}
		}
		fmt.Fprintf(c.out, "%s: %s\n", excerpt.Count(n, "prefix", "prefixes"), strings.Join(parts, ", "))
	}
	if r.ShortenedTo > 0 {
		c.warn("note: bans.max_duration shortened it to %s; --force lifts that", c.end(r.ShortenedTo))
	}
	if n := len(r.Exempted); n > 0 {
		c.warn("note: never-ban or an allow covers %s: kept, but not wholly effective; see banmesh why %s", shorten([]netip.Prefix(r.Exempted)), r.Exempted[0].Addr())
	}
}

// fate says what became of a ban of one prefix that was asked for until then.
func (c *console) fate(r control.BanReply, asked control.Until, would string) string {
	until := r.Until
	if until == 0 { // an agent of an earlier version
		until = asked
	}
	switch {
	case r.Extended > 0 && until > asked:
		return "stays banned, " + c.untilWords(until) + ": only an unban makes a ban shorter"
	case r.Extended > 0 && would != "":
		return "would be banned for longer, " + c.untilWords(until)
	case r.Extended > 0:
		return "ban extended, " + c.untilWords(until)
	case r.Known > 0:
		return "was banned already, nothing changed"
	case r.StaysLifted > 0:
		return "stays unbanned: this very offence was lifted"
	case r.Expired > 0:
		return "not banned: the end " + c.end(asked) + " is past"
	}
	return would + "banned, " + c.untilWords(until)
}
