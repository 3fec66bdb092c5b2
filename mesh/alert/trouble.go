package alert

import (
	"fmt"
	"slices"

	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
	"banmesh/mesh/leader"
)

// The kinds of trouble.
const (
	onCommit = "commit"
	onMember = "member"
	onSync   = "sync"
	onHeld   = "held"
	onStore  = "store"
)

// trouble is one thing that is wrong now.
type trouble struct {
	alert, name, detail string
}

func (t trouble) key() string { return t.alert + " " + t.name }

// Facts are what a Watcher judges by: the agent as it is now.
type Facts struct {
	Router  string // this one
	Members []gossip.Member
	InSync  bool
	Commit  control.CommitStatus
	Lead    leader.Status
	Commits bool   // a conductor is configured
	Stalled string // in words, why nothing moves to the conductor; "" where it does
	Held    string // in words, whose bans are held on this router; "" for none
	Store   error  // why the store is not written
}

// troubles lists what is wrong. It uses the machine's own time nowhere: for how long
// it has been so is the Watcher's to say.
func (f *Facts) troubles() []trouble {
	var out []trouble
	c := &f.Commit
	alive := 0
	for _, m := range f.Members {
		switch m.State {
		case gossip.Alive:
			alive++
		case gossip.Failed:
			out = append(out, trouble{onMember, m.Name, fmt.Sprintf("no answer from %s (%s): its router gets no bans until it is back", m.Name, m.Addr)})
		}
	}
	if !f.InSync && alive > 1 {
		out = append(out, trouble{onSync, "", "the agents do not agree on the bans: `banmesh members` shows which; check that TCP and UDP are open both ways"})
	}
	if c.Held > 0 {
		out = append(out, trouble{onHeld, "", fmt.Sprintf("%d changes at the conductor are held until an operator confirms them: look at `banmesh diff`, then `banmesh commit --force`", c.Held)})
	}
	switch {
	case f.Commits && f.Lead.Leader == "":
		out = append(out, trouble{onCommit, "", "no router leads, so nothing is committed: `banmesh status` says why"})
	case c.State == "failing", c.State == "waiting", c.LastError != nil && c.State != "committing" && c.State != "off":
		detail := "commits fail"
		if c.State == "waiting" {
			detail = "commits wait"
		}
		if c.LastError != nil {
			detail += ": " + *c.LastError
		} else if c.Detail != "" {
			detail += ": " + c.Detail
		}
		out = append(out, trouble{onCommit, "", detail})
	}
	// Commits that fail or wait say more than that nothing moves.
	if f.Stalled != "" && !slices.ContainsFunc(out, func(t trouble) bool { return t.alert == onCommit }) {
		out = append(out, trouble{onCommit, "", f.Stalled})
	}
	if f.Store != nil {
		out = append(out, trouble{onStore, "", fmt.Sprintf("the store is not written: %v", f.Store)})
	}
	if f.Held != "" {
		out = append(out, trouble{onHeld, f.Router, f.Held})
	}
	return out
}

// unclear says of trouble that is not listed whether it may still be there.
func (f *Facts) unclear(t trouble) bool {
	switch t.alert {
	case onCommit:
		return f.Commit.State == "committing" // what comes of it will tell
	case onMember:
		// One that is gone from the list was not heard of: only a live one, or one
		// that said it left, is no trouble any more.
		return !slices.ContainsFunc(f.Members, func(m gossip.Member) bool { return m.Name == t.name })
	}
	return false
}
