package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/spool"
)

const (
	// chunk is how many prefixes go in one call. At 46 bytes at most for each, a call stays far below the 16 MiB that an
	// agent reads (bulkBody in package server).
	chunk = 100_000
	// callTime bounds a call. One of many prefixes may take bulkTime longer.
	callTime = 5 * time.Second
	bulkTime = 25 * time.Second
)

func (c *console) spoolFlag(dir *string) cli.Flag {
	return &cli.StringFlag{Name: "spool", Value: c.getenv("BANMESH_SPOOL"), Destination: dir, Usage: "where the call waits if no agent is reachable, `DIR` (also BANMESH_SPOOL); default the spool of the socket's agent"}
}

// put keeps a call in the spool of the agent that it was meant for, and says where. A call kept anywhere else would be
// lost, or would be applied by an agent that nobody asked. What an agent that runs does not take is kept in memory: its
// disk may hang, and nothing ends a write to it.
func (c *console) put(dir string, e spool.Entry, runs bool) (kept string, err error) {
	s := spool.New(dir)
	if dir == "" {
		if quick, err := spool.QuickOf(c.socket); runs && err == nil && quick.Put(e) == nil {
			return quick.Dir(), nil
		}
		if s, err = c.spoolOf(c.socket); err != nil {
			return "", err
		}
	}
	return s.Dir(), s.Put(e)
}

// spoolOf is where the agent of the socket has its spool: it left a note beside the socket, or the configuration of the
// default place is its own.
func (c *console) spoolOf(socket string) (*spool.Spool, error) {
	s, err := spool.Of(socket)
	if !errors.Is(err, spool.ErrUnknown) {
		return s, err
	}
	configured, dir, err := config.Whereabouts(c.config)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil || configured != socket {
		return nil, fmt.Errorf("its spool is not known: no agent has run with that socket, and %s does not name it: use --spool DIR", c.config)
	}
	return spool.New(dir), nil
}

// deliver makes one call, and keeps it in the spool where no agent takes it. spooled says that it waits there.
func (c *console) deliver(ctx context.Context, limit time.Duration, dir string, e spool.Entry, call func(context.Context, *control.Client) error) (spooled bool, err error) {
	err = c.ask(ctx, limit, call)
	if !notTaken(err) {
		return false, err
	}
	// An agent runs if it refused the call for now (unavailable), or if something listens and does not answer
	// in time.
	kept, lost := c.put(dir, e, !control.NoneRuns(err))
	if lost != nil {
		// Neither taken nor kept: this one is exit 3, and the caller has to try again.
		return false, fmt.Errorf("%w; it cannot be kept either: %w", noAgent(err), lost)
	}
	return true, fmt.Errorf("%w; the call is kept in %s until one runs", noAgent(err), kept)
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

// untaken is the refusal of an agent that cannot take the call now. It matches control.ErrNoAgent, so that a
// script meets one exit code for all that a later try may solve.
type untaken struct{ error }

func (u untaken) Is(target error) bool { return target == control.ErrNoAgent }
func (u untaken) Unwrap() error        { return u.error }

// chunks cuts a list into calls. The capacity of a part ends with it, so that nothing appended to one is
// written into the next. An empty list is one empty part.
func chunks(ps control.Prefixes) []control.Prefixes {
	var out []control.Prefixes
	for len(ps) > chunk {
		out, ps = append(out, ps[:chunk:chunk]), ps[chunk:]
	}
	return append(out, ps)
}

// limitFor looks at one call, never at the whole list, whose calls go one after the other.
func limitFor(prefixes int) time.Duration {
	if prefixes < 1000 {
		return callTime
	}
	return callTime + bulkTime
}
