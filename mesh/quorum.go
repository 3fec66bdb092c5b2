package mesh

import (
	"fmt"
	"net/netip"
	"slices"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
	"banmesh/store"
)

// quorum asks how many routers must have banned what goes to the conductor.
type quorum struct {
	*config.Quorum
	set  *store.Store
	mesh *gossip.Mesh
}

// reached says whether in some jail enough routers have banned it. Those count
// that are alive: a name is free, and a record proves no router.
func reached(q *config.Quorum, b store.EffectiveBan, alive map[string]bool) bool {
	return slices.ContainsFunc(b.Jails, func(j store.JailSeen) bool {
		need, n := q.Of(j.Jail), 0
		if j.Origins < need {
			return false
		}
		for _, s := range b.Seen {
			if s.Jail == j.Jail && alive[s.Origin] {
				n++
			}
		}
		return n >= need
	})
}

// alive are the members that are there now, this one too.
func (q *quorum) alive() map[string]bool {
	alive := make(map[string]bool)
	for _, m := range q.mesh.Members() {
		if m.State == gossip.Alive {
			alive[m.Name] = true
		}
	}
	return alive
}

// enough is the committer's question; nil where one router is enough for all.
func (q *quorum) enough() func() func(store.EffectiveBan) bool {
	if !q.Any() {
		return nil
	}
	// Two steps, because a plan asks for a million bans and the members are the same for all of them.
	return func() func(store.EffectiveBan) bool {
		alive := q.alive()
		return func(b store.EffectiveBan) bool { return reached(q.Quorum, b, alive) }
	}
}

// waits is what a listed ban lacks, nil where it lacks nothing: of its jails
// the one that is nearest to its quorum.
func waits(q *config.Quorum, e *store.Entry, alive map[string]bool) *control.QuorumWait {
	if !q.Any() || !e.Effective {
		return nil
	}
	var nearest *control.QuorumWait
	seen := make(map[string][]string) // the origins of each jail
	for _, r := range e.Records {
		if r.Ignored || slices.Contains(seen[r.Jail], r.Origin) {
			continue
		}
		if alive[r.Origin] {
			seen[r.Jail] = append(seen[r.Jail], r.Origin)
		} else if seen[r.Jail] == nil {
			seen[r.Jail] = []string{} // nobody who is there
		}
	}
	for jail, origins := range seen {
		w := &control.QuorumWait{Jail: jail, Seen: len(origins), Needed: q.Of(jail)}
		if w.Seen >= w.Needed {
			return nil
		}
		if nearest == nil || w.Needed-w.Seen < nearest.Needed-nearest.Seen ||
			w.Needed-w.Seen == nearest.Needed-nearest.Seen && jail < nearest.Jail {
			nearest = w
		}
	}
	return nearest
}

// waitsFor is what keeps a prefix from the conductor although a ban covers
// it; nil where one of the bans that do has its quorum.
func (q *quorum) waitsFor(p netip.Prefix) *control.QuorumWait {
	if !q.Any() {
		return nil
	}
	var wait *control.QuorumWait
	alive := q.alive()
	entries := q.set.List(store.Query{Prefix: p})
	for i := range entries {
		// A narrower ban does not cover all of it.
		if !entries[i].Effective || entries[i].Prefix.Bits() > p.Bits() {
			continue
		}
		w := waits(q.Quorum, &entries[i], alive)
		if w == nil {
			return nil
		}
		if wait == nil || w.Needed-w.Seen < wait.Needed-wait.Seen {
			wait = w
		}
	}
	return wait
}

// warning says that no ban of some jail can ever reach the conductor.
func (q *quorum) warning(members int) string {
	worst := q.Default
	for _, n := range q.Jails {
		worst = max(worst, n)
	}
	if worst <= members {
		return ""
	}
	return fmt.Sprintf("quorum asks for %d routers and the mesh has %d: such bans never reach the conductor; lower quorum.default or quorum.jails", worst, members)
}
