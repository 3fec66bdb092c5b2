package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"banmesh/mesh"
)

func configCommand(c *console) *cli.Command {
	return &cli.Command{
		Name: "config", Category: "Mesh", Usage: "check a configuration",
		Description: "Example:\n   banmesh config check /etc/banmesh/banmesh.yaml",
		Subcommands: []*cli.Command{{
			Name: "check", Usage: "say whether an agent would start with a file", ArgsUsage: "FILE",
			Description: "What is wrong is said with its file, line and key; exit 1. It reads the file only: whether keys and hosts\nexist is found out by the agent.\n\n" +
				"Example:\n   banmesh config check /etc/banmesh/banmesh.yaml",
			Action: func(cc *cli.Context) error {
				args, err := positional(cc, 1, 1)
				if err != nil {
					return err
				}
				file, err := mesh.LoadConfig(args[0])
				if err != nil {
					return err
				}
				if err := file.Validate(); err != nil {
					return err
				}
				_, err = fmt.Fprintf(c.out, "%s: OK\n", args[0])
				return err
			},
		}},
	}
}
