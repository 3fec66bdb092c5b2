package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
	"banmesh/mesh/fail2ban"
	"banmesh/mesh/spool"
)

// fail2banTime bounds the questions to a fail2ban that holds many bans.
const fail2banTime = 5 * time.Minute

// takers is how many bans are taken in at once: the agent brings those that come together to the disk together.
const takers = 16

// clientFlags say how the local fail2ban is asked.
func clientFlags(f *fail2ban.ClientConfig) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "client", Value: "fail2ban-client", Destination: &f.Command, Usage: "`PROGRAM` that asks fail2ban, with its arguments"},
		&cli.StringFlag{Name: "client-socket", Destination: &f.Socket, Usage: "fail2ban's own socket, `PATH`"},
	}
}

func fail2banCheckCommand(c *console) *cli.Command {
	var f fail2ban.ClientConfig
	return &cli.Command{
		Name: "check", Usage: "find what keeps the local fail2ban from sharing its bans rightly",
		Description: "Changes nothing. Each finding says what, why it matters and what mends it. Exit 1 where one is serious.\n\n" +
			"Example:\n   banmesh fail2ban check",
		Flags: append(clientFlags(&f), c.jsonFlag()),
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cc.Context, fail2banTime)
			defer cancel()
			findings, err := fail2ban.Check(ctx, fail2ban.NewClient(f))
			if err != nil {
				return fmt.Errorf("fail2ban check: %w", err)
			}
			return c.tellFindings(findings)
		},
	}
}

func (c *console) tellFindings(findings []fail2ban.Finding) error {
	paint := map[fail2ban.Severity]colour{fail2ban.Serious: red, fail2ban.Warning: yellow, fail2ban.Note: dim}
	serious := 0
	for _, f := range findings {
		if f.Severity == fail2ban.Serious {
			serious++
		}
		if !c.json {
			fmt.Fprintf(c.out, "%s %s\n  why:  %s\n  mend: %s\n", c.paint(paint[f.Severity], string(f.Severity)+":"), f.What, f.Why, f.Mend)
		}
	}
	switch {
	case c.json:
		if findings == nil {
			findings = []fail2ban.Finding{}
		}
		if err := c.printJSON(findings); err != nil {
			return err
		}
	case len(findings) == 0:
		fmt.Fprintln(c.out, "nothing is wrong with the local fail2ban")
	}
	if serious > 0 {
		return exitStatus(exitFailed)
	}
	return nil
}

func fail2banImportCommand(c *console) *cli.Command {
	var f fail2ban.ClientConfig
	var except cli.StringSlice
	var dir string
	return &cli.Command{
		Name: "import", Usage: "take in the bans that the local fail2ban already holds",
		Description: "For bans that are older than banmesh on this router. What is known already changes nothing.\n\n" +
			"Example:\n   banmesh fail2ban import --except recidive",
		Flags: append(clientFlags(&f), &cli.StringSliceFlag{Name: "except", Destination: &except, Usage: "not of the jails `NAME,...`"}, c.socketFlag(), c.spoolFlag(&dir)),
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cc.Context, fail2banTime)
			defer cancel()
			held, err := fail2ban.Import(ctx, fail2ban.NewClient(f), except.Value()...)
			if err != nil {
				return fmt.Errorf("fail2ban import: %w", err)
			}
			var calls []control.BanCall
			for _, b := range held {
				calls = append(calls, control.BanCall{
					Prefixes: control.Prefixes{b.Prefix}, Jail: b.Jail, Start: control.Time(b.Start), Until: control.Until(b.Until),
					Failures: b.Failures, Reason: b.Reason, Restored: b.Restored,
				})
			}
			return c.takeIn(ctx, calls, dir)
		},
	}
}

// takeIn makes calls that each have their own times, several at once.
func (c *console) takeIn(ctx context.Context, calls []control.BanCall, dir string) error {
	var mu sync.Mutex
	var total control.BanReply
	var waiting, failed error
	next := make(chan control.BanCall)
	var all sync.WaitGroup
	for range takers {
		all.Go(func() {
			for call := range next {
				var r control.BanReply
				spooled, err := c.deliver(ctx, callTime, dir, spool.Entry{Time: c.now(), Ban: &call}, func(ctx context.Context, cl *control.Client) error {
					var err error
					r, err = cl.Ban(ctx, call)
					return err
				})
				mu.Lock()
				total = add(total, r)
				switch {
				case spooled:
					waiting = err
				case failed == nil:
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	for _, call := range calls {
		next <- call
	}
	close(next)
	all.Wait()
	if failed != nil {
		return fmt.Errorf("fail2ban import: %w", failed)
	}
	if waiting != nil {
		c.warn("%s", oneLine(waiting))
		return nil
	}
	fmt.Fprintf(c.out, "%d bans of the local fail2ban: %d taken in, %d known already, %d stay unbanned, %d over\n",
		len(calls), total.New+total.Extended, total.Known, total.StaysLifted, total.Expired)
	return nil
}
