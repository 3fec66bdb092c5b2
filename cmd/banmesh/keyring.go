package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
)

// keyringTime bounds a question to all members.
const keyringTime = time.Minute

// keyringCommand has serf's four steps. The agent asks every member at each of them and refuses to go on
// while one has not confirmed, because that member would be cut off.
func keyringCommand(c *console) *cli.Command {
	sub := func(op, usage string, args int) *cli.Command {
		force := false
		cmd := &cli.Command{
			Name: op, Usage: usage,
			Description: "Example:\n   banmesh keyring " + op,
			Flags:       []cli.Flag{c.jsonFlag(), c.socketFlag()},
			Action: func(cc *cli.Context) error {
				given, err := positional(cc, args, args)
				if err != nil {
					return err
				}
				// One argument at most, or none for list.
				key, err := c.keyOf(strings.Join(given, ""))
				if err != nil {
					return err
				}
				if force {
					if err := c.agree("keyring " + op + " --force: members that do not answer are cut off until they get the key by hand"); err != nil {
						return err
					}
				}
				return c.keyring(cc.Context, control.KeyringCall{Op: op, Key: key, Force: force})
			},
		}
		if args > 0 {
			cmd.ArgsUsage = "KEY|-"
			cmd.Description = "- reads the key from standard input, so that no process list shows it.\n\n" +
				"Example:\n   echo \"$KEY\" | banmesh keyring " + op + " -"
		}
		if op == "use" || op == "remove" {
			cmd.Flags = append(cmd.Flags, &cli.BoolFlag{Name: "force", Destination: &force, Usage: "skip members that do not answer"}, c.yesFlag())
		}
		return cmd
	}
	return &cli.Command{
		Name: "keyring", Category: "Mesh", Usage: "manage the keys that encrypt gossip, on all members",
		Description: "To change the key: install the new one, use it, remove the old one. Each step is refused while a member has not confirmed.\n" +
			"Keys are never shown. Each has a name, which use and remove accept too.\n\n" +
			"Example:\n   KEY=$(banmesh keygen); echo \"$KEY\" | banmesh keyring install - && echo \"$KEY\" | banmesh keyring use -",
		Subcommands: []*cli.Command{
			sub("list", "show the keys' names and how many members hold each", 0), sub("install", "install a new key on all members", 1),
			sub("use", "encrypt with a key from now on", 1), sub("remove", "forget a key that is no longer used", 1),
		},
	}
}

// keyOf is the key that was given, from the standard input for "-".
func (c *console) keyOf(given string) (string, error) {
	if given != "-" {
		return given, nil
	}
	// More than any key has: of a wrong file the beginning is enough to be refused.
	text, err := io.ReadAll(io.LimitReader(c.in, 256))
	if err != nil {
		return "", fmt.Errorf("read the key: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// keyring asks the agent, which asks every member; the counts show whether the next step of a change is safe.
func (c *console) keyring(ctx context.Context, call control.KeyringCall) error {
	var r control.KeyringReply
	err := c.ask(ctx, keyringTime, func(ctx context.Context, cl *control.Client) error {
		var err error
		r, err = cl.Keyring(ctx, call)
		return err
	})
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(r)
	}
	t := &table{}
	t.head("KEY", "HELD BY", "IN USE BY")
	for _, k := range r.Keys {
		t.row(cell{text: k.Key}, cell{text: fmt.Sprintf("%d of %d", k.Holders, r.Members)}, cell{text: fmt.Sprint(k.Primary)})
	}
	return t.write(c.out, c.paint)
}
