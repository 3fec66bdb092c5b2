package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
	"banmesh/mesh/spool"
)

const (
	// chunk is how many prefixes go in one call.
	chunk = 100_000
	// callTime bounds one call; a bulk one gets bulkTime more for each chunk that is full.
	callTime = 5 * time.Second
	bulkTime = 25 * time.Second
)

func (c *console) spoolFlag(dir *string) cli.Flag {
	path := c.getenv("BANMESH_SPOOL")
	if path == "" {
		path = spool.DefaultDir
	}
	return &cli.StringFlag{Name: "spool", Value: path, Destination: dir, Usage: "where the call waits when no agent is reachable, `DIR` (also BANMESH_SPOOL)"}
}

// deliver makes one call, and keeps it in the spool where no agent takes it. spooled says that it waits there.
func (c *console) deliver(ctx context.Context, limit time.Duration, dir string, e spool.Entry, call func(context.Context, *control.Client) error) (spooled bool, err error) {
	err = c.ask(ctx, limit, call)
	if !notTaken(err) {
		return false, err
	}
	if kept := spool.New(dir).Put(e); kept != nil {
		return false, fmt.Errorf("%w; it cannot be kept either: %w", noAgent(err), kept)
	}
	return true, fmt.Errorf("%w; the call is kept in %s until one runs", noAgent(err), dir)
}

// notTaken says whether a call is to be repeated by itself later: nobody answered, or an agent that cannot yet or no more.
func notTaken(err error) bool {
	var e *control.Error
	return errors.Is(err, control.ErrNoAgent) || errors.As(err, &e) && e.Code == control.CodeUnavailable
}

// noAgent gives the error of an agent that is starting, stopping or cannot write the exit code of none, in its own words.
func noAgent(err error) error {
	if errors.Is(err, control.ErrNoAgent) {
		return err
	}
	return untaken{err}
}

type untaken struct{ error }

func (u untaken) Is(target error) bool { return target == control.ErrNoAgent }
func (u untaken) Unwrap() error        { return u.error }

// chunks cuts a list into calls.
func chunks(ps control.Prefixes) []control.Prefixes {
	var out []control.Prefixes
	for len(ps) > chunk {
		out, ps = append(out, ps[:chunk:chunk]), ps[chunk:]
	}
	return append(out, ps)
}

func limitFor(prefixes int) time.Duration {
	if prefixes < 1000 {
		return callTime
	}
	return callTime + bulkTime
}
