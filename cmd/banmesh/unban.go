package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/urfave/cli/v2"

	"banmesh/internal/excerpt"
	"banmesh/mesh/control"
	"banmesh/mesh/spool"
)

// unban is what its flags say.
type unban struct {
	jail  jail
	mine  bool
	hold  duration
	all   bool
	file  string
	force bool
	spool string
	dry   bool
}

// unbanCommand exits 1 if the address is still banned afterwards, by a wider ban or because nothing was
// lifted: a script can rely on 0.
func unbanCommand(c *console) *cli.Command {
	u := &unban{}
	return &cli.Command{
		Name: "unban", Category: "Bans", Usage: "lift bans on every router", ArgsUsage: "PREFIX...",
		Description: "Lifts every ban of exactly that prefix that this agent has seen, from whichever router. Exits 1 if it was not banned, or\n" +
			"a wider ban still covers it.\n\n" +
			"Example:\n   banmesh unban 203.0.113.7\n   banmesh unban 203.0.113.7 --hold 1d\n   banmesh unban --all --jail sshd --yes",
		Flags: []cli.Flag{
			&cli.GenericFlag{Name: "jail", Value: &u.jail, Usage: "only the bans of the jail `NAME`"},
			&cli.BoolFlag{Name: "mine", Destination: &u.mine, Usage: "only this router's own bans"},
			&cli.GenericFlag{Name: "hold", Value: &u.hold, Usage: "also allow it for `DURATION`, so that it is not banned again at once"},
			&cli.BoolFlag{Name: "all", Destination: &u.all, Usage: "every ban; asks first"},
			&cli.StringFlag{Name: "file", Destination: &u.file, Usage: "also the prefixes in `FILE`, one a line; - is the standard input"},
			&cli.BoolFlag{Name: "force", Destination: &u.force, Usage: "clear host bits"},
			dryRunFlag(&u.dry), c.yesFlag(), c.socketFlag(), c.spoolFlag(&u.spool),
		},
		Action: func(cc *cli.Context) error { return u.run(cc.Context, c, cc.Args().Slice()) },
	}
}

// run makes one call for each chunk of a long list. A prefix that was not banned (exit 1) does not keep the rest from being
// lifted; any other failure would meet the rest too.
func (u *unban) run(ctx context.Context, c *console, args []string) error {
	now := c.now()
	ps, err := c.gather(args, u.file, u.force)
	if err != nil {
		return err
	}
	call := control.UnbanCall{Jail: string(u.jail), Mine: u.mine, At: control.At(now), DryRun: u.dry}
	if u.hold != 0 {
		call.Hold = u.hold.until(now)
	}
	switch {
	case u.all && (len(args) > 0 || u.file != ""):
		return usagef("unban: --all or prefixes, not both")
	case u.all && u.hold != 0:
		// An allow names prefixes, and --all has none to name.
		return usagef("unban: --hold needs prefixes, not --all")
	case u.all && u.dry:
		// It lifts nothing, so there is nothing to confirm.
		call.All = true
		return u.deliver(ctx, c, call)
	case u.all:
		if err := c.confirm(u.whole()); err != nil {
			return err
		}
		call.All, call.Confirmed = true, true
		return u.deliver(ctx, c, call)
	case len(ps) == 0 && u.file == "":
		return usagef("unban: no address given: see banmesh unban --help")
	case len(ps) == 0:
		fmt.Fprintln(c.out, "nothing to unban: the list is empty")
		return nil
	}
	var failed error
	for _, part := range chunks(ps) {
		call.Prefixes = part
		if err := u.deliver(ctx, c, call); err != nil {
			failed = err
			// No agent, or a refusal for good.
			if exitCode(err) != exitFailed {
				break
			}
		}
	}
	return failed
}

// whole says in words what --all lifts here.
func (u *unban) whole() string {
	s := "lift all bans"
	if u.mine {
		s += " of this router"
	}
	if u.jail != "" {
		s += " of the jail " + string(u.jail)
	}
	return s
}

// deliver makes a call, or leaves it in the spool if no agent answers. It carries the time at which it was given: an agent that
// drains the spool later spares the bans made since. A dry run is never spooled.
func (u *unban) deliver(ctx context.Context, c *console, call control.UnbanCall) error {
	var reply control.UnbanReply
	limit := limitFor(len(call.Prefixes))
	// It names no prefix, and may lift as many as there are.
	if call.All {
		limit = callTime + bulkTime
	}
	asked := func(ctx context.Context, cl *control.Client) error {
		var err error
		reply, err = cl.Unban(ctx, call)
		return err
	}
	if call.DryRun {
		if err := c.ask(ctx, limit, asked); err != nil {
			return err
		}
		return c.printUnban(call, reply)
	}
	spooled, err := c.deliver(ctx, limit, u.spool, spool.Entry{Time: c.now(), Unban: &call}, asked)
	if spooled {
		c.warn("%s", oneLine(err))
		return nil
	}
	if err != nil {
		return err
	}
	return c.printUnban(call, reply)
}

// unbannedWord keeps a dry run from looking as if it had been done.
func unbannedWord(dryRun bool) string {
	if dryRun {
		return "would be unbanned"
	}
	return "unbanned"
}

// printUnban says what was lifted; what is still banned, or never was, is a failure.
func (c *console) printUnban(call control.UnbanCall, r control.UnbanReply) error {
	var not []netip.Prefix
	var covered []string
	lifted := 0
	for _, l := range r.Lifted {
		if l.Offences > 0 {
			lifted++
		}
		p, err := control.ParsePrefix(l.Prefix)
		if err != nil {
			return fmt.Errorf("unban: the agent's reply: %w", err)
		}
		switch {
		// What is lifted was found among the bans, so none of it was not banned.
		case call.All:
		case len(l.Covering) > 0:
			covered = append(covered, fmt.Sprintf("%s is still covered by the ban of %s", control.Format(p), shorten(l.Covering)))
		case l.Offences == 0:
			not = append(not, p)
		}
	}
	done := unbannedWord(call.DryRun)
	switch {
	case call.All:
		fmt.Fprintf(c.out, "%s %s\n", excerpt.Count(lifted, "prefix", "prefixes"), done)
	case lifted == 1 && len(r.Lifted) == 1:
		fmt.Fprintf(c.out, "%s %s\n", control.Format(call.Prefixes[0]), done)
	case lifted > 0:
		fmt.Fprintf(c.out, "%d of %d prefixes %s\n", lifted, len(r.Lifted), done)
	}
	if lifted > 0 {
		// Only then: without a lift there was nothing to tell the fail2bans, and their state is for status.
		for _, u := range r.Unnotified {
			c.warn("the fail2ban of %s cannot be told and goes on blocking: %s; banmesh doctor there says what helps", control.OneLine(u.Router), control.OneLine(u.Why))
		}
	}
	var wrong []string
	if len(not) > 0 {
		s := shorten(not) + map[bool]string{true: " is", false: " are"}[len(not) == 1] + " not banned"
		if call.Mine {
			s += " by this router"
		}
		if call.Jail != "" {
			s += " in the jail " + call.Jail
		}
		wrong = append(wrong, s)
	}
	// All of it becomes one line of error, and exit 1 even if most was lifted: a script must not take 0 for an
	// address that is still blocked.
	if len(covered) > 3 {
		covered = append(covered[:3], fmt.Sprintf("%d more are covered", len(covered)-3))
	}
	wrong = append(wrong, covered...)
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(wrong, "; "))
}
