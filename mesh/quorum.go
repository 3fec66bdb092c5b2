package mesh

import (
	"fmt"
	"net/netip"
	"slices"

	"banmesh/mesh/control"
	"banmesh/store"
)

// manualJail is the jail of a ban that an operator gave by hand: nobody else
// need have seen what he means.
const manualJail = "manual"

// maxQuorum is more routers than a mesh has.
const maxQuorum = 10000

// of is how many routers must have banned an address in that jail before the
// conductor gets it.
func (q *Quorum) of(jail string) int {
	switch n, ok := q.Jails[jail]; {
	case ok:
		return n
	case jail == manualJail:
		return 1
	}
	return q.Default
}

// any says whether some jail needs more than one router.
func (q *Quorum) any() bool {
	if q.Default > 1 {
		return true
	}
	for _, n := range q.Jails {
		if n > 1 {
			return true
		}
	}
	return false
}

// reached says whether in some jail enough routers have banned it.
func (q *Quorum) reached(b store.EffectiveBan) bool {
	return slices.ContainsFunc(b.Jails, func(j store.JailSeen) bool { return j.Origins >= q.of(j.Jail) })
}

// waits is what a listed ban lacks, nil where it lacks nothing: of its jails
// the one that is nearest to its quorum.
func (q *Quorum) waits(e *store.Entry) *control.QuorumWait {
	if !q.any() || !e.Effective {
		return nil
	}
	var nearest *control.QuorumWait
	seen := make(map[string][]string) // the origins of each jail
	for _, r := range e.Records {
		if !r.Ignored && !slices.Contains(seen[r.Jail], r.Origin) {
			seen[r.Jail] = append(seen[r.Jail], r.Origin)
		}
	}
	for jail, origins := range seen {
		w := &control.QuorumWait{Jail: jail, Seen: len(origins), Needed: q.of(jail)}
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

// waitsFor is what keeps an address from the conductor although a ban covers
// it; nil where one of the bans that do has its quorum.
func (a *Agent) waitsFor(ip netip.Addr) *control.QuorumWait {
	if !a.cfg.Quorum.any() {
		return nil
	}
	var wait *control.QuorumWait
	entries := a.store.List(store.Query{Prefix: netip.PrefixFrom(ip, ip.BitLen())})
	for i := range entries {
		if !entries[i].Effective {
			continue
		}
		w := a.cfg.Quorum.waits(&entries[i])
		if w == nil {
			return nil
		}
		if wait == nil || w.Needed-w.Seen < wait.Needed-wait.Seen {
			wait = w
		}
	}
	return wait
}

func (q *Quorum) validate() error {
	if q.Default < 1 || q.Default > maxQuorum {
		return field("quorum.default", "%d: 1 is the conductor gets every ban, 2 is two routers must have seen it", q.Default)
	}
	for jail, n := range q.Jails {
		key := "quorum.jails." + jail
		if err := control.CheckJail(jail); err != nil {
			return field("quorum.jails", "%v", err)
		}
		if n < 1 || n > maxQuorum {
			return field(key, "%d: at least 1 router, and no more than there are", n)
		}
	}
	return nil
}

// quorumWarning says that no ban of some jail can ever reach the conductor.
func (a *Agent) quorumWarning(members int) string {
	q := &a.cfg.Quorum
	worst := q.Default
	for _, n := range q.Jails {
		worst = max(worst, n)
	}
	if a.committer == nil || worst <= members {
		return ""
	}
	return fmt.Sprintf("quorum asks for %d routers and the mesh has %d: such bans never reach the conductor; lower quorum.default or quorum.jails", worst, members)
}
