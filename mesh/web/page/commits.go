package page

import (
	"time"

	"banmesh/mesh/control"
)

const (
	keptCommits  = 50
	shownCommits = 8 // on the overview

	// sameCommit is how far apart two reports of one commit may be: the event of it, and the leader's status.
	sameCommit = 3 * time.Second
)

// commits are the last ones, newest first. The router that makes a commit knows what it changed; of another router's commits
// only the time and the sum are known.
type commits struct {
	last      []committed
	at        control.Time // of the last known one
	addresses int          // in the tenant then
	known     bool         // something has been reported
}

// committed is a commit as far as this agent knows it. The leader's event says what changed; without it, only
// the totals before and after are known.
type committed struct {
	At             control.Time
	By             string
	Add, Remove    int
	Added, Removed control.Prefixes // the first of them
	Exact          bool             // what it changed is known; otherwise only the difference of the sums, Net
	Net            int
	First          bool // the first known one: what it changed is not known
}

// told handles the event of a commit.
func (c *commits) told(e control.Event) {
	if e.Add+e.Remove == 0 {
		return // another router's: its status tells how many addresses there are now
	}
	c.push(committed{At: e.Time, By: e.Name, Add: e.Add, Remove: e.Remove, Added: e.Added, Removed: e.Removed, Exact: true})
}

// heard handles what the status says about commits.
func (c *commits) heard(s *control.Status) {
	at := s.Commit.LastCommit
	if at == 0 {
		// No commit is known yet: what the tenant holds is what the first one is compared with.
		c.known, c.addresses = true, s.Commit.Committed
		return
	}
	if at > c.at { // another leader's last commit may be older
		entry := committed{At: at, First: !c.known, Net: s.Commit.Committed - c.addresses}
		if s.Leader != nil {
			entry.By = *s.Leader
		}
		c.push(entry)
	}
	c.known, c.at, c.addresses = true, max(c.at, at), s.Commit.Committed
}

// push adds a commit unless it is the one added before.
func (c *commits) push(entry committed) {
	for i := range c.last {
		apart := time.Duration(entry.At-c.last[i].At) * time.Millisecond
		// Two of one kind are two commits, however close: each source tells a commit once.
		if apart.Abs() < sameCommit && (entry.Exact != c.last[i].Exact) {
			// The event says more than the status, whichever of the two comes first.
			if entry.Exact {
				c.last[i] = entry
			}
			return
		}
	}
	i := 0
	for i < len(c.last) && c.last[i].At > entry.At {
		i++
	}
	c.last = append(c.last, committed{})
	copy(c.last[i+1:], c.last[i:])
	c.last[i] = entry
	c.last = c.last[:min(len(c.last), keptCommits)]
}
