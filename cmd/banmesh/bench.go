package main

import (
	"fmt"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/bench"
)

func benchCommand(c *console) *cli.Command {
	return &cli.Command{
		Name: "bench", Category: "Other", Usage: "measure performance on this machine",
		Description: "Example:\n   banmesh bench mesh --agents 10 --bans 10000",
		Subcommands: []*cli.Command{benchMeshCommand(c)},
	}
}

func benchMeshCommand(c *console) *cli.Command {
	var o bench.Options
	return &cli.Command{
		Name: "mesh", Usage: "measure how fast bans travel and what they cost",
		Description: "Agents in this process, on loopback, with real and encrypted UDP and TCP, and each with its own file. All agents share this\n" +
			"machine's processors, so more agents are slower than they would be on machines of their own.\n\n" +
			"Example:\n   banmesh bench mesh --agents 10 --bans 10000",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "agents", Value: 10, Destination: &o.Agents, Usage: "`N` agents"},
			&cli.IntFlag{Name: "bans", Value: 10000, Destination: &o.Bans, Usage: "`M` bans in a burst"},
			c.jsonFlag(),
		},
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			if err := o.Validate(); err != nil {
				return usagef("bench mesh: %w", err)
			}
			o.Progress = c.progress
			ctx, stop := signal.NotifyContext(cc.Context, syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			r, err := bench.Run(ctx, o)
			c.progress("")
			if err != nil {
				return fmt.Errorf("bench mesh: %w", err)
			}
			if c.json {
				return c.printJSON(r)
			}
			return c.printBench(r)
		},
	}
}

func (c *console) printBench(r bench.Report) error {
	rows := []struct{ what, value string }{
		{"agents", fmt.Sprint(r.Agents)},
		{"one ban to all, p50", fmt.Sprintf("%.2f ms", r.SingleP50)},
		{"one ban to all, p99", fmt.Sprintf("%.2f ms", r.SingleP99)},
		{"one ban to all, slowest", fmt.Sprintf("%.2f ms", r.SingleMax)},
		{"packets a ban, whole mesh", fmt.Sprintf("%.1f", r.PacketsPerBan)},
		{"bytes a ban, whole mesh", fmt.Sprintf("%.0f", r.BytesPerBan)},
		{fmt.Sprintf("%d bans at one agent to all", r.Bans), fmt.Sprintf("%.0f ms", r.BurstOneAgent)},
		{fmt.Sprintf("%d bans spread over all to all", r.Bans), fmt.Sprintf("%.0f ms", r.BurstSpread)},
		{fmt.Sprintf("two halves with %d bans each agree", r.Bans/2), fmt.Sprintf("%.0f ms", r.Heal)},
		{"memory of a million bans, one agent", fmt.Sprintf("%.0f MB (from %d)", r.MemoryPerMillion, r.MemoryBans)},
		{fmt.Sprintf("restart with %d bans", r.MemoryBans), fmt.Sprintf("%.0f ms", r.Restart)},
	}
	for _, row := range rows {
		if _, err := fmt.Fprintf(c.out, "%-42s %s\n", row.what, row.value); err != nil {
			return err
		}
	}
	return nil
}
