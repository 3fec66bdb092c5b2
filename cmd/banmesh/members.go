package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
)

// show fetches one reply and prints it as JSON where that was asked for, else as people like it.
func show[R any](ctx context.Context, c *console, get func(*control.Client, context.Context) (R, error), tell func(R) error) error {
	var reply R
	err := c.ask(ctx, answerTime, func(ctx context.Context, cl *control.Client) error {
		var err error
		reply, err = get(cl, ctx)
		return err
	})
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(reply)
	}
	return tell(reply)
}

// printJSON writes the agent's reply as it came, whose fields are the contract (docs/interfaces.md); tables
// may change.
func (c *console) printJSON(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func membersCommand(c *console) *cli.Command {
	return &cli.Command{
		Name: "members", Category: "Mesh", Usage: "show the agents of the mesh",
		Description: "Example:\n   banmesh members\n   banmesh members --json",
		Flags:       []cli.Flag{c.jsonFlag(), c.socketFlag()},
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			return show(cc.Context, c, (*control.Client).Members, c.printMembers)
		},
	}
}

// printMembers shows "unknown" for agreement that nobody has confirmed lately, never an old yes.
func (c *console) printMembers(members []control.Member) error {
	slices.SortFunc(members, func(a, b control.Member) int { return control.CompareNames(a.Name, b.Name) })
	t := &table{}
	t.head("NAME", "ADDRESS", "STATE", "IN SYNC", "CLOCK", "VERSION", "ROLE")
	for _, m := range members {
		state := map[string]colour{"alive": green, "failed": red}[m.State]
		sync := cell{"yes", plain}
		if !m.InSync {
			sync = cell{"no", yellow}
		}
		// After the yes or no, which would otherwise be shown of a member that was last heard long ago.
		if m.Unknown {
			sync = cell{"unknown", yellow}
		}
		if m.Mute != "" {
			sync.text += ", no UDP " + m.Mute + " it"
		}
		// What a member held before it failed or left says nothing about now.
		if m.State != "alive" {
			sync = cell{"-", dim}
		}
		role := ""
		if m.Self {
			role = "this one"
		}
		if m.Leader {
			role = join(role, "leader")
		}
		t.row(cell{text: m.Name}, cell{text: m.Addr}, cell{m.State, state}, sync, skewCell(m.SkewMS), cell{text: m.Version}, cell{text: role})
	}
	return t.write(c.out, c.paint)
}

// badSkew is from when on clocks that differ matter: bans end at different times, and nothing old is forgotten.
const badSkew = 60 * time.Second

// skewCell has a sign always: + is a member whose clock is ahead of this one's.
func skewCell(ms int64) cell {
	d := time.Duration(ms) * time.Millisecond
	text := "+" + formatDuration(d)
	if d < 0 {
		text = formatDuration(d)
	}
	if d.Abs() >= badSkew {
		return cell{text, red}
	}
	return cell{text, plain}
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return fmt.Sprintf("%s, %s", a, b)
}
