package metrics

import (
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/enforce"
	"banmesh/mesh/gossip"
	"banmesh/store"
)

// Source is what the numbers are read from, once a scrape. The agent is one.
type Source interface {
	// Sample returns the numbers of this moment. It is called from any goroutine,
	// several at once, and must stay cheap however large the set is. The dearest
	// thing in it should be store.Store.Counts: so no root, no list, no plan of a
	// commit (commit.Committer.LastStatus instead of Status).
	Sample() Sample
}

// Sample is the agent in numbers. What does not exist there stays zero.
type Sample struct {
	Members control.MemberCount
	// MembersInSync counts the alive members with this one's root, this one
	// included.
	MembersInSync int
	InSync        bool          // gossip.Mesh.InSync
	Settled       bool          // gossip.Mesh.Settled
	Skew          time.Duration // this clock less the members' median, as control.Status.SkewMS
	MaxSkew       time.Duration // the largest gossip.Member.Skew of an alive member, as an absolute value

	Counts  store.Counts
	Jails   map[string]int // prefixes with a live ban in each; it is not changed
	Frozen  bool
	Blocked int // routers whose records do not count
	Spooled int // calls that wait in the spool
	// Warnings counts those of control.Status.
	Warnings int

	Gossip gossip.Stats
	Leader Leader
	// Commit is how the commits stand, as `status` shows it here: where another
	// router leads, what it has reported.
	Commit  control.CommitStatus
	Enforce enforce.Status
	Store   Store
}

// Leader is how the election stands.
type Leader struct {
	Known    bool // somebody leads
	Self     bool // it is this router
	Eligible bool // this router could lead
	Term     uint64
}

// Store is how the file of the store fares.
type Store struct {
	Bytes   int64 // of the file
	Healthy bool  // the last write worked: store.Store.Health is nil
}
