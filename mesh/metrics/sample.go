package metrics

import (
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/enforce"
	"banmesh/mesh/gossip"
	"banmesh/store"
)

// Source provides the numbers, once per scrape. The agent implements it.
type Source interface {
	// Sample returns the current numbers. Any goroutine may call it, several at once, and it must stay cheap however large
	// the set is. store.Store.Counts should be the most expensive part: so no root, no list and no plan of a commit
	// (commit.Committer.LastStatus instead of Status).
	Sample() Sample
}

// Sample is the agent in numbers. What the agent does not have stays zero.
type Sample struct {
	Members control.MemberCount
	// MembersInSync counts the alive members with the same root as this one, which is included.
	MembersInSync int
	InSync        bool          // gossip.Mesh.InSync
	Settled       bool          // gossip.Mesh.Settled
	Skew          time.Duration // this clock minus the members' median, as control.Status.SkewMS
	MaxSkew       time.Duration // the largest gossip.Member.Skew of an alive member, as an absolute value

	Counts  store.Counts
	Jails   map[string]int // prefixes with a live ban in each; must not be changed
	Frozen  bool
	Blocked int // routers whose records do not count
	Spooled int // calls waiting in the spool
	// Warnings counts those of control.Status.
	Warnings int

	Gossip gossip.Stats
	Leader Leader
	// Commit shows how the commits stand, as `status` does on this router: if another router leads, as it has reported.
	Commit  control.CommitStatus
	Enforce enforce.Status
	Store   Store
}

// Leader shows how the election stands.
type Leader struct {
	Known    bool // somebody leads
	Self     bool // it is this router
	Eligible bool // this router could lead
	Term     uint64
}

// Store shows the state of the store's file.
type Store struct {
	Bytes   int64 // of the file
	Healthy bool  // the last write worked: store.Store.Health is nil
}
