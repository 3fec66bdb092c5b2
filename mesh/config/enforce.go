package config

import "banmesh/store"

func defaultEnforce() Enforce {
	g := store.DefaultGuard()
	return Enforce{
		Driver: "none", Jail: "mesh", Limit: 1000,
		WidestIPv4: g.WidestV4, WidestIPv6: g.WidestV6, SpaceIPv4: g.SpaceV4, SpaceIPv6: g.SpaceV6,
	}
}

// Guard bounds what others have blocked by this router.
func (e *Enforce) Guard() store.Guard {
	return store.Guard{WidestV4: e.WidestIPv4, WidestV6: e.WidestIPv6, SpaceV4: e.SpaceIPv4, SpaceV6: e.SpaceIPv6}
}

// Feeds says whether a jail holds what other routers banned, and nothing of this
// one's own.
func (e *Enforce) Feeds(jail string) bool { return e.Driver == "fail2ban" && jail == e.Jail }
