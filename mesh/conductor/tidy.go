package conductor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/mesh/conductor/prefixset"
)

const (
	tidyOpen  = 3 * time.Second  // to open a session with another node just to tidy it
	tidyAgain = 30 * time.Second // between attempts at a node that does not answer
	lookAgain = 4 * time.Minute  // between looks at the candidate of a node; the leader reads running each five
)

// errEarly means that this process, its predecessor or another leader may have committed the difference a moment ago, at another
// node, and that running shows it late. Undone here, it would be taken out of force by the next commit of an administrator at this
// node.
var errEarly = errors.New("running may still show an earlier commit late")

// errDiffers says that our tenant in another node's candidate differs from running's, and not by an edit that is known to be
// ours: by an administrator's, or one that a killed process has left after running was reset there.
var errDiffers = errors.New("it differs from running")

// tidyOthers cleans the candidates of the other nodes, where each node has its own. If a node fell silent during an edit, the
// next commit of an administrator there would put the leftover in force and overwrite what has changed since. A new process
// looks at each node once, because its predecessor may have been killed, and not before running shows what that committed.
func (c *Conductor) tidyOthers(ctx context.Context, s Session, at *node, p Permit) {
	if s.Candidate() != NodeCandidate {
		return
	}
	c.mu.Lock()
	if c.began.IsZero() {
		c.began = time.Now()
	}
	c.mu.Unlock()
	for i, n := range c.nodes {
		c.mu.Lock()
		left := n.leftover
		due := n != at && (left != nil || !n.looked) && !time.Now().Before(n.next)
		c.mu.Unlock()
		if !due {
			continue
		}
		err := c.tidy(ctx, i, p)
		c.mu.Lock()
		switch {
		case err == nil:
			n.looked, n.untidy = true, ""
		case errors.Is(err, errEarly):
			n.next = time.Now().Add(min(tidyAgain, c.cfg.Timeout))
		case left == nil:
			n.looked, n.next = !errors.Is(err, ErrUnreachable), time.Now().Add(tidyAgain)
		default:
			n.next = time.Now().Add(tidyAgain)
			n.untidy = fmt.Sprintf("the candidate of %s can hold an unfinished change of %s of this mesh, and cannot be cleaned now: the next commit there puts it in force (%s)",
				n.name, left.at.Format(time.DateTime), OneLine(err.Error()))
		}
		c.mu.Unlock()
		if err != nil && !errors.Is(err, errEarly) {
			c.cfg.Logger.Warn("the other node's candidate cannot be looked after", "conductor", n.name, "err", err)
		}
	}
}

// lookAround finds out, once running was read, which other node's candidate lacks addresses that running has. That comes about
// whenever an administrator has an edit open there while somebody commits here, and ends without a word when it is reverted. A
// node that was warned of is looked at also when it has become the one in use. Only a process that edits looks, so that each node
// gets one visitor and not as many as the mesh has members.
func (c *Conductor) lookAround(ctx context.Context, s Session, at *node, running *Tenant) {
	if s.Candidate() != NodeCandidate || c.mayLag() {
		return
	}
	for i, n := range c.nodes {
		now := time.Now()
		c.mu.Lock()
		due := (n != at || n.lifts != "") && !c.began.IsZero() && n.untidy == "" && !now.Before(n.glance)
		if due {
			n.glance = now.Add(lookAgain)
		}
		c.mu.Unlock()
		if !due {
			continue
		}
		lacks, err := c.lacking(ctx, i, s, running)
		c.mu.Lock()
		switch {
		case errors.Is(err, ErrLogin):
			n.glance = now.Add(time.Hour) // each attempt counts towards a lockout
		case err != nil: // nothing was seen, so what was warned of may still be there
		case lacks == 0:
			n.lifts = ""
		default:
			n.lifts = fmt.Sprintf("the candidate of %s lacks %s of the tenant: the next commit there lifts those bans; if nobody means to, revert it at that node",
				n.name, excerpt.Count(lacks, "address", "addresses"))
		}
		c.mu.Unlock()
		if err != nil {
			c.cfg.Logger.Debug("the node's candidate cannot be read", "conductor", n.name, "err", err)
		}
	}
}

// lacking counts the addresses of running that another node's candidate lacks, and goes on lacking for a moment.
func (c *Conductor) lacking(ctx context.Context, at int, s Session, running *Tenant) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, tidyOpen+c.settle+cleanupTime)
	defer cancel()
	opening, opened := context.WithTimeout(ctx, tidyOpen)
	other, err := c.driver.Open(opening, at)
	opened()
	if err != nil {
		return 0, err
	}
	defer other.Close(ctx)
	for first := true; ; first = false {
		candidate, err := other.Read(ctx, CandidateStore)
		if err != nil {
			return 0, err
		}
		lacks := prefixset.Minus(running.Addresses, candidate.Addresses)
		if len(lacks) == 0 || !first {
			return len(lacks), nil
		}
		if err := wait(ctx, c.settle); err != nil {
			return 0, err
		}
		if running, err = s.Read(ctx, RunningStore); err != nil {
			return 0, err
		}
	}
}

// mayLag reports whether running may not show the last commit yet.
func (c *Conductor) mayLag() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	return now.Sub(c.began) < c.cfg.Timeout ||
		slices.ContainsFunc(c.nodes, func(n *node) bool { return n.leftover.late(now, c.cfg.Timeout) })
}

// moved notes that a commit at one node has changed running: the leftovers in other nodes' candidates lack that change.
func (c *Conductor) moved(at *node, by change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		if n == at || n.leftover == nil {
			continue
		}
		l := *n.leftover
		l.change.added, l.change.removed = prefixset.Plus(l.change.added, by.removed), prefixset.Plus(l.change.removed, by.added)
		n.leftover = &l
	}
}

// tidy undoes exactly our edits in one node's candidate.
func (c *Conductor) tidy(ctx context.Context, at int, p Permit) error {
	n := c.nodes[at]
	ctx, cancel := context.WithTimeout(ctx, tidyOpen+c.settle+cleanupTime)
	defer cancel()
	opening, opened := context.WithTimeout(ctx, tidyOpen)
	s, err := c.driver.Open(opening, at)
	opened()
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	e := &edit{c: c, s: s, n: n, log: c.cfg.Logger.With("conductor", n.name)}
	d, err := e.compare(ctx)
	switch {
	case err != nil:
		return err
	case d.Clean():
		e.found(d)
		// A commit without an answer may still be under way, so keep the record of the leftover for a while.
		c.mu.Lock()
		if n.leftover != nil && time.Since(n.leftover.at) >= c.cfg.Timeout {
			n.leftover = nil
		}
		c.mu.Unlock()
		return nil
	case d.Running == nil || !e.own(d, p):
		if d.change.empty() {
			return nil // others work there, and nothing of ours is in it
		}
		return fmt.Errorf("%w: %s", errDiffers, d.Detail())
	case c.mayLag() && !e.remembered(d):
		return errEarly
	}
	return e.undoLeftovers(ctx, d)
}
