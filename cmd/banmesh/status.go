package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/internal/excerpt"
	"banmesh/mesh/control"
)

// watchEvery is how often status --watch looks.
const watchEvery = 2 * time.Second

// statusCommand shows what the agent says of itself; doctor also looks at the machine.
func statusCommand(c *console) *cli.Command {
	var watch bool
	return &cli.Command{
		Name: "status", Category: "Mesh", Usage: "show the state on one screen, what is wrong and how to fix it",
		Description: "Example:\n   banmesh status\n   banmesh status --watch\n   banmesh status --json",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Destination: &watch, Usage: "show it again every two seconds, until interrupted; with --json one object after the other"},
			c.jsonFlag(), c.socketFlag(),
		},
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			if !watch {
				return show(cc.Context, c, (*control.Client).Status, c.printStatus)
			}
			ctx, stop := signal.NotifyContext(cc.Context, syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			tick := time.NewTicker(watchEvery)
			defer tick.Stop()
			return c.watchStatus(ctx, tick.C)
		},
	}
}

// watchStatus shows the status now and at each tick until ctx ends. An agent that does not answer is said, and asked again.
func (c *console) watchStatus(ctx context.Context, tick <-chan time.Time) error {
	for {
		// CUP and ED of ECMA-48: the cursor to the corner, and the screen erased.
		if isTerminal(c.out) && !c.json {
			fmt.Fprint(c.out, "\x1b[H\x1b[2J")
		}
		err := show(ctx, c, (*control.Client).Status, c.printStatus)
		switch {
		// A pager that was left is a normal end.
		case ctx.Err() != nil, errors.Is(err, syscall.EPIPE):
			return nil
		case errors.Is(err, control.ErrNoAgent):
			// It may be restarting, which is what somebody watches.
			c.warn("%s", oneLine(err))
		case err != nil:
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
		}
	}
}

// printStatus keeps to one screen: a line is there only if it says something, and warnings come last, where
// the eye ends.
func (c *console) printStatus(s control.Status) error {
	line := func(label, text string) { fmt.Fprintf(c.out, "%-10s %s\n", label, text) }
	fmt.Fprintf(c.out, "%s  banmesh %s, up %s\n", c.paint(bold, s.Name), s.Version, formatDuration(time.Duration(s.UptimeS)*time.Second))
	line("members", c.membersCell(s))
	// A mesh without a conductor needs no leader, and a line about none would look like a fault.
	if s.Leader != nil || s.Commit.State != "off" {
		line("leader", c.leaderCell(s))
	}
	line("in sync", c.syncCell(s))
	line("bans", c.bansCell(s))
	line("allows", fmt.Sprint(s.Allows))
	if s.Spooled > 0 {
		line("spool", c.paint(yellow, excerpt.Count(s.Spooled, "call waits", "calls wait")))
	}
	for _, text := range c.commitLines(s) {
		line(text[0], text[1])
	}
	line("clock", c.clockCell(s))
	if s.Fail2ban != "" {
		line("fail2ban", s.Fail2ban)
	}
	if e := s.Enforce; e != nil {
		line("enforce", enforceLine(e))
	}
	if s.Frozen {
		line("frozen", c.paint(yellow, "by "+s.FrozenBy+": nothing is added until banmesh thaw"))
	}
	if len(s.Blocked) > 0 {
		line("blocked", c.paint(yellow, strings.Join(s.Blocked, ", ")+": nothing of it counts until banmesh revoke --unblock"))
	}
	if len(s.Warnings) == 0 {
		line("warnings", "none")
	}
	for _, w := range s.Warnings {
		// The commit's lines above show the same detail already.
		if what, told := strings.CutSuffix(w, ": "+s.Commit.Detail); told && s.Commit.Detail != "" {
			w = what + ", see commit"
		}
		line("warning", c.paint(yellow, w))
	}
	return nil
}

func (c *console) membersCell(s control.Status) string {
	text := fmt.Sprintf("%d alive", s.Members.Alive)
	if s.Members.Failed > 0 {
		text += c.paint(red, fmt.Sprintf(", %d failed", s.Members.Failed))
	}
	if s.Members.Left > 0 {
		text += fmt.Sprintf(", %d left", s.Members.Left)
	}
	return text
}

// syncCell says whether the others hold the same set. A member of which nothing was heard lately may hold anything, so that
// is not a yes.
func (c *console) syncCell(s control.Status) string {
	switch {
	case s.Unknown > 0:
		return c.paint(yellow, fmt.Sprintf("unknown: no word of %d lately", s.Unknown))
	case !s.InSync && s.Members.Alive == 1:
		return c.paint(yellow, "unknown: no other member answers")
	case !s.InSync:
		return c.paint(yellow, "no, catching up")
	}
	return c.paint(green, "yes")
}

// bansCell tells effective from live: an allow, a limit or a hold keeps the rest from taking effect.
func (c *console) bansCell(s control.Status) string {
	text := fmt.Sprintf("%d live, %d effective, %d from this router", s.Bans.Live, s.Bans.Effective, s.Bans.Own)
	if s.Bans.OverLimit > 0 {
		text += c.paint(yellow, fmt.Sprintf(", %d beyond a limit", s.Bans.OverLimit))
	}
	if s.Bans.Held > 0 {
		text += c.paint(yellow, fmt.Sprintf(", %d held here", s.Bans.Held))
	}
	return text
}

// clockCell says how this router's clock stands against the median of the others: only expiry depends on it.
func (c *console) clockCell(s control.Status) string {
	text := "agrees with the others"
	if s.Members.Alive <= 1 {
		text = "not compared: no other member answers"
	}
	skew := time.Duration(s.SkewMS) * time.Millisecond
	switch {
	case skew.Abs() >= badSkew:
		return c.paint(red, skewCell(s.SkewMS).text+" against the others: set it, bans end at the wrong time")
	case skew != 0:
		text += " (" + skewCell(s.SkewMS).text + ")"
	}
	return text
}

// leaderCell names the leader, or says why there is none, and whether this one could take over.
func (c *console) leaderCell(s control.Status) string {
	could := "; this one could take over"
	switch {
	case s.Eligible:
	// The line of the commit says why; said twice it would not fit the screen.
	case s.Why != "" && s.Why == s.Commit.Detail:
		could = "; this one cannot, see commit"
	default:
		could = "; this one cannot: " + s.Why
	}
	switch {
	case s.Leader == nil:
		return c.paint(yellow, "none yet"+could)
	case *s.Leader == s.Name:
		return fmt.Sprintf("%s, this one, since %s (term %d)", *s.Leader, c.moment(s.Since), s.Term)
	}
	return fmt.Sprintf("%s since %s (term %d)%s", *s.Leader, c.moment(s.Since), s.Term, could)
}

// commitLines says how the commits stand: the state with what it waits for, then the numbers. Nothing where no router commits.
func (c *console) commitLines(s control.Status) [][2]string {
	k := s.Commit
	switch {
	case k.State == "off" && s.Leader == nil:
		return nil
	// Another router leads, so the mesh has a conductor, and this one does not commit.
	case k.State == "off" || k.Driver == "none":
		return [][2]string{{"commit", "off: no conductor is configured here"}}
	}
	paint := map[string]colour{"failing": red, "waiting": yellow, "frozen": yellow, "idle": green}[k.State]
	text := k.State
	if k.Detail != "" {
		text += ": " + k.Detail
	}
	out := [][2]string{{"commit", c.paint(paint, text)}}
	numbers := fmt.Sprintf("%d committed, %d to add, %d to remove", k.Committed, k.PendingAdd, k.PendingRemove)
	// Without a reading the count would be 0, which is not what is known.
	if k.Unread {
		numbers = fmt.Sprintf("what is committed is not known: the tenant was not read yet; %d to add, %d to remove", k.PendingAdd, k.PendingRemove)
	}
	if k.Foreign > 0 {
		numbers += fmt.Sprintf(", %d foreign", k.Foreign)
	}
	if k.Held > 0 {
		numbers += c.paint(yellow, fmt.Sprintf(", %d held back (banmesh commit --force)", k.Held))
	}
	out = append(out, [2]string{"", numbers})
	if k.ReadAt != 0 {
		out = append(out, [2]string{"", "tenant read " + formatDuration(max(0, c.now().Sub(k.ReadAt.Time()).Truncate(time.Second))) + " ago by " + k.ReadBy})
	}
	if k.LastCommit != 0 {
		out = append(out, [2]string{"", "last commit " + formatDuration(max(0, c.now().Sub(k.LastCommit.Time()).Truncate(time.Second))) + " ago"})
	}
	// The detail of a failing commit is that error already.
	if k.LastError != nil && *k.LastError != k.Detail {
		out = append(out, [2]string{"", c.paint(red, "last error: "+oneLine(fmt.Errorf("%s", *k.LastError)))})
	}
	if k.Features != "" {
		out = append(out, [2]string{"", "conductor: " + k.Features})
	}
	return out
}

// enforceLine is how the bans take effect on this router.
func enforceLine(e *control.Enforcement) string {
	text := fmt.Sprintf("%s %s, %d in force", e.Driver, e.State, e.InForce)
	switch {
	// The driver could not compare what is in force with what should be.
	case e.Behind == nil:
		text += ", how many are missing is not known"
	case *e.Behind > 0:
		text += fmt.Sprintf(", %d behind for %v", *e.Behind, (time.Duration(e.BehindMS) * time.Millisecond).Round(100*time.Millisecond))
	}
	if e.Dropped > 0 {
		text += fmt.Sprintf(", %d packets (%d bytes) dropped", e.Dropped, e.DroppedBytes)
	}
	return text
}
