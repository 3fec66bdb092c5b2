package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
)

// keyringTime bounds a question to all members.
const keyringTime = time.Minute

func keyringCommand(c *console) *cli.Command {
	sub := func(op, usage string, args int) *cli.Command {
		cmd := &cli.Command{
			Name: op, Usage: usage,
			Description: "Example:\n   banmesh keyring " + op,
			Flags:       []cli.Flag{c.jsonFlag(), c.socketFlag()},
			Action: func(cc *cli.Context) error {
				given, err := positional(cc, args, args)
				if err != nil {
					return err
				}
				return c.keyring(cc.Context, control.KeyringCall{Op: op, Key: strings.Join(given, "")})
			},
		}
		if args > 0 {
			cmd.ArgsUsage = "KEY"
			cmd.Description += " \"$KEY\""
		}
		return cmd
	}
	return &cli.Command{
		Name: "keyring", Category: "Mesh", Usage: "the keys that encrypt the gossip, on all members",
		Description: "To change the key: install the new one, use it, remove the old one. Each step is refused while a member has not confirmed.\n\n" +
			"Example:\n   KEY=$(banmesh keygen); banmesh keyring install \"$KEY\" && banmesh keyring use \"$KEY\"",
		Subcommands: []*cli.Command{
			sub("list", "show the keys and how many members hold each", 0), sub("install", "give all members a new key", 1),
			sub("use", "encrypt with a key from now on", 1), sub("remove", "forget a key that is no longer used", 1),
		},
	}
}

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
