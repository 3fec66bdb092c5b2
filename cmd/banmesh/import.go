package main

import (
	"fmt"
	"net/netip"

	"github.com/urfave/cli/v2"

	"banmesh/internal/excerpt"
	"banmesh/mesh/blocklist"
	"banmesh/mesh/control"
)

// defaultImport is how long what a published list names stays banned: until its next edition, as most appear daily.
const defaultImport = 24 * 60 * 60 * 1e9

// importing is what the flags of import say. Its ban holds what import shares with banmesh ban: the length, the jail, the
// reason and what --force lets through.
type importing struct {
	ban
	skip bool
	most int
}

// importCommand works from cron: the same list again extends its bans, and what disappeared from it expires
// by itself, so no state is kept here.
func importCommand(c *console) *cli.Command {
	b := &importing{ban: ban{length: duration(defaultImport), jail: "import"}}
	return &cli.Command{
		Name: "import", Category: "Bans", Usage: "ban the addresses of a published list", ArgsUsage: "FILE|-",
		Description: "Reads a prefix, range (a-b) or network and mask a line, with # and ; comments; DShield's block list; Spamhaus DROP as text or\n" +
			"NDJSON; AbuseIPDB's JSON; cscli decisions as CSV or JSON; ipset save; and what banmesh export writes, with the jails,\n" +
			"starts and ends in it. Any of them may be gzipped. A list of another form is refused.\n" +
			"--jail, --for and --reason are for what the list does not say itself. Importing the same list again extends its bans; what is\n" +
			"no longer in it expires.\n\n" +
			"Example:\n   curl -s https://lists.example.net/drop.txt | banmesh import - --jail drop --for 1d\n   banmesh export --format csv | ssh other banmesh import -",
		Flags: []cli.Flag{
			&cli.GenericFlag{Name: "for", Value: &b.length, Usage: "how long: `DURATION` like 2h, 1d, or -1 for without end"},
			&cli.GenericFlag{Name: "jail", Value: &b.jail, Usage: "`NAME` under which they are kept"},
			&cli.GenericFlag{Name: "reason", Value: &b.reason, Usage: "`TEXT` for other operators"},
			&cli.BoolFlag{Name: "force", Destination: &b.force, Usage: "also prefixes wider than /16 (IPv6 /32) and where you are logged in from; host bits cleared"},
			&cli.BoolFlag{Name: "skip", Destination: &b.skip, Usage: "skip entries that cannot be banned instead of refusing the list; fails if it skips more than it bans"},
			&cli.IntFlag{Name: "at-most", Destination: &b.most, Usage: "refuse a list of more than `N` prefixes, which is broken or the wrong one"},
			dryRunFlag(&b.dryRun), c.socketFlag(), c.spoolFlag(&b.spool),
		},
		Action: func(cc *cli.Context) error {
			args, err := positional(cc, 1, 1)
			if err != nil {
				return err
			}
			l, err := c.readList(args[0], blocklist.Read, blocklist.Options{Mask: b.force, Skip: b.skip})
			if err != nil {
				return err
			}
			return b.take(cc, c, l)
		},
	}
}

// take refuses a list as a whole before anything of it is banned. With --skip entries may be unusable, but
// not most of them: then it is another file than it should be, such as an error page.
func (b *importing) take(cc *cli.Context, c *console, l *blocklist.List) error {
	entries, wide := l.Entries, []netip.Prefix(nil)
	if b.skip && !b.force {
		entries, wide = leaveOutWide(entries)
	}
	if b.dryRun {
		fmt.Fprintf(c.out, "read as %s\n", l.Form)
	}
	b.printLeftOut(c, l, wide)
	// After the notes on what was left out, which help to see what kind of list this is.
	if b.most > 0 && len(entries) > b.most {
		return fmt.Errorf("the list names %d prefixes, more than --at-most %d: nothing imported", len(entries), b.most)
	}
	if out := len(l.Bad) + len(wide); b.skip && (len(entries) == 0 || out > len(entries)) {
		return fmt.Errorf("nothing imported: %s can be used, %d cannot", excerpt.Count(len(entries), "entry", "entries"), out)
	}
	ps := make(control.Prefixes, len(entries))
	own := false
	for i, e := range entries {
		ps[i] = e.Prefix
		own = own || e.Jail != "" || e.Start != 0 || e.Until != 0 || e.Failures != 0 || e.Reason != ""
	}
	// With --skip the wide ones are gone by now, and what is left to refuse is the caller's own address.
	if err := b.refuse(c, ps); err != nil {
		return err
	}
	call := control.BanCall{Jail: string(b.jail), Until: b.length.until(c.now()), Reason: string(b.reason), Force: b.force, DryRun: b.dryRun}
	// Without attributes of its own the list goes as bare prefixes, of which one call takes twice as many.
	if !own {
		return c.banAll(cc.Context, ps, call, b.spool)
	}
	return c.banCalls(cc.Context, eachCalls(entries, call), b.spool)
}

// printLeftOut says what of a list is not imported, and why.
func (b *importing) printLeftOut(c *console, l *blocklist.List, wide []netip.Prefix) {
	if len(l.Bad) > 0 {
		c.warn("note: %s left out, the first: %s", excerpt.Count(len(l.Bad), "line", "lines"), oneLine(l.Bad[0]))
	}
	if len(wide) > 0 {
		c.warn("note: %d wider than /16 (IPv4) or /32 (IPv6) left out: %s; --force takes them", len(wide), shorten(wide))
	}
	if l.Passive > 0 {
		c.warn("note: %d left out that the list itself does not block: expired, simulated, allowed or not effective", l.Passive)
	}
}

// leaveOutWide reuses the memory of entries, which the caller must not look at again.
func leaveOutWide(entries []blocklist.Entry) (kept []blocklist.Entry, wide []netip.Prefix) {
	kept = entries[:0]
	for _, e := range entries {
		if control.Wide(e.Prefix) {
			wide = append(wide, e.Prefix)
			continue
		}
		kept = append(kept, e)
	}
	return kept, wide
}

// maxEachBytes keeps a call below what the agent reads at once, 16 MiB. The sizes below are estimates, hence the half.
const maxEachBytes = 8 << 20

// eachCalls makes calls of entries that have attributes of their own; like says what they do not.
func eachCalls(entries []blocklist.Entry, like control.BanCall) []control.BanCall {
	var calls []control.BanCall
	size := 0
	for i, e := range entries {
		o := control.OneBan{Prefix: e.Prefix, Jail: e.Jail, Start: e.Start, Until: e.Until, Failures: e.Failures, Reason: e.Reason}
		if o.Jail == "" {
			o.Jail = like.Jail
		}
		if o.Until == 0 {
			o.Until = like.Until
		}
		if o.Reason == "" {
			o.Reason = like.Reason
		}
		// 200 bytes are enough for the names of the fields, the prefix and the numbers.
		n := 200 + len(o.Jail) + 6*len(o.Reason) // as it may be escaped
		if size += n; len(calls) == 0 || size > maxEachBytes || len(calls[len(calls)-1].Each) == control.MaxEach {
			calls, size = append(calls, control.BanCall{
				Force: like.Force, DryRun: like.DryRun, Each: make(control.OneBans, 0, min(control.MaxEach, len(entries)-i)),
			}), n
		}
		last := &calls[len(calls)-1]
		last.Each = append(last.Each, o)
	}
	return calls
}
