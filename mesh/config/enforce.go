package config

import (
	"path/filepath"
	"slices"
	"strings"

	"banmesh/mesh/control"
	"banmesh/store"
)

// Enforce names the driver that makes bans take effect on this router at once.
// The widths and spaces here hold bans of others back on this router alone; those of limits decide what counts on all of
// them.
type Enforce struct {
	Driver string `yaml:"driver"` // none, nftables or fail2ban
	Jail   string `yaml:"jail"`   // driver fail2ban: the jail that holds the peers' bans
	Limit  int    `yaml:"limit"`  // driver fail2ban: bans in that jail at most
	NetNS  string `yaml:"netns"`  // driver nftables: network namespace, by its name for `ip netns` or as a file; "" is the agent's own

	// Ingress names interfaces at which the driver nftables drops before a bridge
	// that they are ports of takes a frame.
	Ingress []string `yaml:"ingress"`

	// What others ban is blocked by this router, and in its feeds and exports, up to
	// this width and all together; the rest is held here. 0 is
	// no bound.
	WidestIPv4 int `yaml:"widest_ipv4"`
	WidestIPv6 int `yaml:"widest_ipv6"`
	SpaceIPv4  int `yaml:"space_ipv4"` // as much as one prefix of this length
	SpaceIPv6  int `yaml:"space_ipv6"`
}

// validateEnforce cannot know whether a namespace or an interface exists: it may come later, and the driver
// says while it is missing.
func (c *Config) validateEnforce() error {
	var bad faults
	e := &c.Enforce
	bad.add(oneOf("enforce.driver", e.Driver))
	if err := control.CheckJail(e.Jail); err != nil {
		bad.add(field("enforce.jail", "%s", strings.TrimPrefix(err.Error(), "jail ")))
	}
	if e.Limit < 1 {
		bad.add(field("enforce.limit", "%d: at least 1", e.Limit))
	}
	for _, f := range []struct {
		key    string
		v, max int
	}{{"widest_ipv4", e.WidestIPv4, 32}, {"widest_ipv6", e.WidestIPv6, 128}, {"space_ipv4", e.SpaceIPv4, 32}, {"space_ipv6", e.SpaceIPv6, 64}} {
		if f.v < 0 || f.v > f.max {
			bad.add(field("enforce."+f.key, "%d is not from 0 to %d", f.v, f.max))
		}
	}
	switch {
	case e.NetNS == "":
	case e.Driver != "nftables":
		bad.add(field("enforce.netns", "%q: only enforce.driver nftables has one", e.NetNS))
	case !filepath.IsAbs(e.NetNS) && (strings.ContainsAny(e.NetNS, "/\x00") || e.NetNS == "." || e.NetNS == ".."):
		bad.add(field("enforce.netns", "%q: want a name that `ip netns list` shows, or the absolute path of a namespace's file", e.NetNS))
	}
	if len(e.Ingress) > 0 && e.Driver != "nftables" {
		bad.add(field("enforce.ingress", "only enforce.driver nftables drops at interfaces"))
	}
	for i, name := range e.Ingress {
		// IFNAMSIZ is 16 with the closing zero (netdevice(7)).
		if name == "" || len(name) > 15 || strings.ContainsAny(name, "/: \t\n\x00") || slices.Contains(e.Ingress[:i], name) {
			bad.add(field("enforce.ingress", "%q: want names of interfaces that `ip link` shows, each once", name))
		}
	}
	return bad.err()
}

// defaultEnforce takes the guard's defaults from the store, which decides by them.
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

// IsMeshJail says whether a jail holds what other routers banned, and nothing of this
// one's own.
func (e *Enforce) IsMeshJail(jail string) bool { return e.Driver == "fail2ban" && jail == e.Jail }
