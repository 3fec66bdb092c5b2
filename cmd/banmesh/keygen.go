package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/gossip"
)

func keygenCommand(c *console) *cli.Command {
	return &cli.Command{
		Name: "keygen", Category: "Mesh", Usage: "make a key that encrypts gossip",
		Description: "A keyring file is a JSON array of such keys; the first one encrypts. It is the same on every router, and only its owner may read it.\n\n" +
			"Example:\n   echo \"[\\\"$(banmesh keygen)\\\"]\" | install -T -o banmesh -g banmesh -m 0600 /dev/stdin /etc/banmesh/keyring.json",
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			_, err := fmt.Fprintln(c.out, gossip.NewKey())
			return err
		},
	}
}
