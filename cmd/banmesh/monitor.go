package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
)

// watched is what the flags of monitor select.
type watched struct {
	events cli.StringSlice
	jail   jail
	origin string
	prefix netip.Prefix
}

// selects filters here and not at the agent, which sends each listener everything.
func (w *watched) selects(e control.Event) bool {
	if kinds := w.events.Value(); len(kinds) > 0 && !slices.Contains(kinds, e.Event) {
		return false
	}
	// An event that has neither, such as a join, is left out when either is asked for.
	if w.jail != "" && e.Jail != string(w.jail) || w.origin != "" && e.Origin != w.origin {
		return false
	}
	if !w.prefix.IsValid() {
		return true
	}
	p, err := netip.ParsePrefix(e.Prefix)
	return err == nil && p.Overlaps(w.prefix)
}

// monitorCommand filters on this side, since the agent sends every reader the same stream. An interruption is
// its normal end and no error.
func monitorCommand(c *console) *cli.Command {
	w := &watched{}
	return &cli.Command{
		Name: "monitor", Category: "Mesh", Usage: "show events as they happen", ArgsUsage: "[PREFIX]",
		Description: "Runs until it is interrupted or the agent stops. With --json, prints one object a line. With a prefix, shows only\n" +
			"events about it, about wider prefixes that cover it and about addresses inside it.\n\n" +
			"Example:\n   banmesh monitor\n   banmesh monitor --event ban,lift --jail sshd 203.0.113.0/24\n   banmesh monitor --json | jq -r 'select(.event==\"ban\").prefix'",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "event", Destination: &w.events, Usage: "only these `KINDS`, as they are shown: ban,lift,expire ..."},
			&cli.GenericFlag{Name: "jail", Value: &w.jail, Usage: "only the jail `NAME`"},
			&cli.StringFlag{Name: "origin", Destination: &w.origin, Usage: "only events of the router `NAME`"},
			c.jsonFlag(), c.socketFlag(),
		},
		Action: func(cc *cli.Context) error {
			var err error
			if w.prefix, err = optionalPrefix(cc); err != nil {
				return err
			}
			for _, kind := range w.events.Value() {
				if !slices.Contains(control.EventKinds, kind) {
					return usagef("monitor: --event %s: want some of %s", control.Show(kind), strings.Join(control.EventKinds, ", "))
				}
			}
			ctx, stop := signal.NotifyContext(cc.Context, syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return c.monitor(ctx, w)
		},
	}
}

// monitor shows events until it is interrupted or nobody reads its output any more (`| head`), which are no errors.
func (c *console) monitor(ctx context.Context, w *watched) error {
	// Straight to the output: a program behind a pipe sees each event when it happens.
	enc := json.NewEncoder(c.out)
	var last control.Event
	err := c.client().Events(ctx, func(e control.Event) error {
		last = e
		if !w.selects(e) && e.Lost == 0 { // what was lost may have been selected
			return nil
		}
		if c.json {
			return enc.Encode(e)
		}
		return c.printEvent(e)
	})
	switch {
	case ctx.Err() != nil, errors.Is(err, syscall.EPIPE):
		return nil
	}
	return streamEnd(err, last)
}

// streamEnd says why a stream has ended, after its last event.
func streamEnd(err error, last control.Event) error {
	switch {
	// The agent ends a stream with such an event if its reader stays too slow.
	case errors.Is(err, io.EOF) && last.Lost > 0:
		return errors.New("the agent has dropped this reader, which does not keep up")
	case errors.Is(err, io.EOF):
		return errors.New("the agent has stopped")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the agent has cut the stream: it has stopped, or events were left unread for too long")
	}
	return err
}

var eventColours = map[string]colour{
	"ban": red, "extend": red, "lift": green, "expire": dim, "allow": green, "join": green, "failed": red, "error": red, "leader": yellow, "commit": bold,
}

// printEvent has one line an event, in local time to the millisecond: what people compare it with is a log
// beside it. Scripts take --json.
func (c *console) printEvent(e control.Event) error {
	var words []string
	say := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if e.Prefix != "" {
		say("%s", control.Bare(e.Prefix))
	}
	if e.Name != "" {
		say("%s", e.Name)
	}
	if e.Addr != "" {
		say("(%s)", e.Addr)
	}
	if e.Origin != "" {
		say("of %s", e.Origin)
	}
	if e.Jail != "" {
		say("jail %s", e.Jail)
	}
	if e.By != "" {
		say("by %s", e.By)
	}
	if e.Until != 0 {
		say("%s", c.untilWords(e.Until))
	}
	if e.Term != 0 {
		say("term %d", e.Term)
	}
	if e.Add+e.Remove > 0 {
		say("+%d -%d", e.Add, e.Remove)
	}
	if e.Lost > 0 {
		say("%d events were lost: this reader is too slow", e.Lost)
	}
	for _, s := range []string{e.Detail, e.Error} {
		if s != "" {
			say("%s", s)
		}
	}
	label := fmt.Sprintf("%-8s", e.Event)
	_, err := fmt.Fprintf(c.out, "%s  %s %s\n", e.Time.Time().Local().Format("15:04:05.000"), c.paint(eventColours[e.Event], label), strings.Join(words, " "))
	return err
}
