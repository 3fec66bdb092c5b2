package config

import (
	"banmesh/mesh/control"
	"banmesh/store"
)

// Quorum is the number of routers that must have seen an address before the
// conductor gets it.
type Quorum struct {
	Default int            `yaml:"default"`
	Jails   map[string]int `yaml:"jails"`
}

// maxQuorum is more routers than a mesh has.
const maxQuorum = 10000

// Of is how many routers must have banned an address in that jail before the
// conductor gets it.
func (q *Quorum) Of(jail string) int {
	switch n, ok := q.Jails[jail]; {
	case ok:
		return n
	// Unless the operator gives that jail a number of its own.
	case jail == store.ManualJail:
		return 1
	}
	return q.Default
}

// Any says whether some jail needs more than one router.
func (q *Quorum) Any() bool {
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
