// Package quorum decides which bans enough routers have seen to go to the conductor. It holds back only there: kernels and feeds
// drop what one router has banned. A ban that waits is committed as soon as another router bans it as well, without anybody's
// doing, because the committer asks again with each plan.
package quorum

import (
	"fmt"
	"net/netip"
	"slices"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
	"banmesh/store"
)

// Quorum judges bans by the configuration, and by the members as they are at the moment of each question.
type Quorum struct {
	rule    *config.Quorum
	set     *store.Store
	members func() []gossip.Member
}

// New judges the bans of the set by a rule. members lists all members, this one too.
func New(rule *config.Quorum, set *store.Store, members func() []gossip.Member) *Quorum {
	return &Quorum{rule, set, members}
}

// reached reports whether enough routers have banned it in one and the same jail. Only members that are alive count: with
// the gossip key one can write records under any number of names, and a record proves no router.
func reached(rule *config.Quorum, b store.EffectiveBan, alive map[string]bool) bool {
	return slices.ContainsFunc(b.Jails, func(j store.JailSeen) bool {
		need, n := rule.Of(j.Jail), 0
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

// Alive returns the names of the members that count, this one too.
func (q *Quorum) Alive() map[string]bool {
	alive := make(map[string]bool)
	for _, m := range q.members() {
		if m.State == gossip.Alive {
			alive[m.Name] = true
		}
	}
	return alive
}

// Enough is the committer's question. It is nil where one router is enough in every jail, so that a plan then asks nothing.
func (q *Quorum) Enough() func() func(store.EffectiveBan) bool {
	if !q.rule.Any() {
		return nil
	}
	// Two steps, because a plan asks for a million bans and the members are the same for all of them.
	return func() func(store.EffectiveBan) bool {
		alive := q.Alive()
		return func(b store.EffectiveBan) bool { return reached(q.rule, b, alive) }
	}
}

// Wait returns what a listed ban lacks: of its jails the one that is nearest to its quorum, by name among equals, so that two
// lists show the same. nil means that it lacks nothing or would not be committed anyhow. alive comes from Alive, once for a
// whole list.
func (q *Quorum) Wait(e *store.Entry, alive map[string]bool) *control.QuorumWait {
	if !q.rule.Any() || !e.Effective {
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
			seen[r.Jail] = []string{} // the jail waits too, with nobody who counts
		}
	}
	for jail, origins := range seen {
		w := &control.QuorumWait{Jail: jail, Seen: len(origins), Needed: q.rule.Of(jail)}
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

// WaitFor returns what keeps a prefix from the conductor although a ban covers it, nil where one of the bans that cover it has
// its quorum.
func (q *Quorum) WaitFor(p netip.Prefix) *control.QuorumWait {
	if !q.rule.Any() {
		return nil
	}
	var wait *control.QuorumWait
	alive := q.Alive()
	entries := q.set.List(store.Query{Prefix: p})
	for i := range entries {
		// A narrower ban does not cover all of it.
		if !entries[i].Effective || entries[i].Prefix.Bits() > p.Bits() {
			continue
		}
		w := q.Wait(&entries[i], alive)
		if w == nil {
			return nil
		}
		if wait == nil || w.Needed-w.Seen < wait.Needed-wait.Seen {
			wait = w
		}
	}
	return wait
}

// Warning says that no ban of some jail can ever reach the conductor, because it asks for more routers than there are. Failed
// members belong to the number given: they may come back.
func (q *Quorum) Warning(members int) string {
	worst := q.rule.Default
	for _, n := range q.rule.Jails {
		worst = max(worst, n)
	}
	if worst <= members {
		return ""
	}
	return fmt.Sprintf("quorum asks for %d routers and the mesh has %d: such bans never reach the conductor; lower quorum.default or quorum.jails", worst, members)
}
