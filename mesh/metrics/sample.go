package metrics

import (
	"time"

	"banmesh/mesh/gossip"
	"banmesh/store"
)

// Source is what the numbers are read from, once a scrape. The agent is one.
type Source interface {
	// Sample returns the numbers of this moment. It is called from any goroutine,
	// several at once, and must not do what takes as long as the set is large,
	// beyond store.Counts: no root, no list, no plan.
	Sample() Sample
}

// Sample is the agent in numbers. What does not exist there stays zero.
type Sample struct {
	Members Members
	InSync  bool          // every known root agrees: gossip.Mesh.InSync
	Settled bool          // enough was heard of the mesh to act: gossip.Mesh.Settled
	Skew    time.Duration // this clock less the members' median

	Counts  store.Counts
	Frozen  bool
	Blocked int // routers whose records do not count
	Spooled int // calls that wait in the spool

	Gossip  gossip.Stats
	Leader  Leader
	Commit  Commit
	Enforce Enforce
	Store   Store
}

// Members counts the members by state; this one is among the alive.
type Members struct {
	Alive, Failed, Left int
	InSync              int           // of the alive, with this one's root, this one included
	MaxSkew             time.Duration // the largest difference of an alive member's clock from this one's, either way
}

// Leader is how the election stands.
type Leader struct {
	Known    bool // somebody leads
	Self     bool // it is this router
	Eligible bool // this router could lead
	Term     uint64
}

// Commit is how the commits stand, as `status` shows it on this router. Where
// another router leads, the numbers are those it reported.
type Commit struct {
	State         string // commit.State; "off" where no conductor is configured
	Committed     int
	PendingAdd    int
	PendingRemove int
	Foreign       int
	Held          int
	Commits       uint64    // by the leader, since it started
	LastCommit    time.Time // zero: none yet
}

// Enforce is how enforcement on this router stands.
type Enforce struct {
	Driver   string // none, nftables or fail2ban
	State    string // enforce.Status.State
	Elements int    // addresses and prefixes that are in force
	Batches  uint64 // changes made to the kernel's sets, or to the jail
}

// Store is how the file of the store fares.
type Store struct {
	Bytes   int64 // of the file
	Healthy bool  // the last write worked: store.Store.Health is nil
}
