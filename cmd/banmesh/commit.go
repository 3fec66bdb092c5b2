package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/internal/excerpt"
	"banmesh/mesh/control"
)

// commitTime bounds calls that wait for the conductor: its own deadline is the agent's affair, and shorter.
const commitTime = 10 * time.Minute

func commitCommand(c *console) *cli.Command {
	var call control.CommitCall
	return &cli.Command{
		Name: "commit", Category: "Conductor", Usage: "commit the bans to the conductor now",
		Description: "Commits happen automatically; this one starts at once, and with --force also makes changes that are held.\n\n" +
			"Example:\n   banmesh commit --dry-run\n   banmesh commit",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Destination: &call.Force, Usage: "also make the changes that are held because they are too many or too wide"},
			&cli.BoolFlag{Name: "dry-run", Destination: &call.DryRun, Usage: "only show what it would change"},
			c.jsonFlag(), c.socketFlag(),
		},
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			var r control.CommitReply
			err := c.ask(cc.Context, commitTime, func(ctx context.Context, cl *control.Client) error {
				var err error
				r, err = cl.Commit(ctx, call)
				return err
			})
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(r)
			}
			return c.printCommit(call, r)
		},
	}
}

// printCommit prefers the leader's own words, which say how long it took, if they say the same as the counts.
// What is held back comes last, with the command that makes it happen.
func (c *console) printCommit(call control.CommitCall, r control.CommitReply) error {
	if call.DryRun {
		return c.printDiff(r.Diff)
	}
	text := "nothing to commit"
	if r.Committed {
		text = fmt.Sprintf("committed: %d added, %d removed", len(r.Add), len(r.Remove))
	}
	detail := r.Detail
	if r.Committed && strings.HasPrefix("committed: "+detail, text) {
		// The leader's own words for it, with how long it took.
		text, detail = "committed: "+detail, ""
	}
	if r.Leader != "" {
		text += " (by " + r.Leader + ")"
	}
	if detail != "" {
		text += ": " + detail
	}
	if n := len(r.Held); n > 0 {
		text += fmt.Sprintf("; held back: %s: banmesh commit --force", excerpt.Count(n, "removal", "removals"))
	}
	if n := len(r.HeldAdd); n > 0 {
		text += fmt.Sprintf("; held back: %s: look at banmesh diff, then banmesh commit --force", excerpt.Count(n, "addition", "additions"))
	}
	_, err := fmt.Fprintln(c.out, text)
	return err
}
