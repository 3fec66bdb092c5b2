package config

import (
	"fmt"
	"net/netip"

	"banmesh/mesh/gossip"
)

// Gossip says how the agent talks to its peers.
type Gossip struct {
	Bind      string `yaml:"bind"`      // IP:port, UDP and TCP; port 0 takes a free one
	Advertise string `yaml:"advertise"` // IP or IP:port that the peers reach it at; "" is the bound one
	Profile   string `yaml:"profile"`   // lan, wan or local: timeouts
	Keyring   string `yaml:"keyring"`   // file with the encryption keys
	Label     string `yaml:"label"`     // keeps meshes apart that share a network
	Insecure  bool   `yaml:"insecure"`  // no keyring although not every address is loopback
	// RemoteKeyring lets `banmesh keyring` at other routers change this one's keys.
	RemoteKeyring bool `yaml:"remote_keyring"`
}

func (c *Config) validateGossip() error {
	var bad faults
	bad.add(shown("gossip.label", c.Gossip.Label))
	bind, err := netip.ParseAddrPort(c.Gossip.Bind)
	if err != nil {
		bad.add(field("gossip.bind", "%q is not IP:port", c.Gossip.Bind))
		return bad.err()
	}
	if bind.Addr().Zone() != "" {
		bad.add(field("gossip.bind", "%q has a zone", c.Gossip.Bind))
	}
	if a := c.Gossip.Advertise; a != "" {
		if _, err := parseAdvertise(a, bind.Port()); err != nil {
			bad.add(field("gossip.advertise", "%q is not IP or IP:port", a))
		}
	}
	bad.add(oneOf("gossip.profile", c.Gossip.Profile))
	// Anybody who reaches an unencrypted port can ban and unban on every router.
	if c.Gossip.Keyring == "" && !c.Gossip.Insecure && !bind.Addr().IsLoopback() {
		bad.add(field("gossip.keyring", "is not set, and %s is not a loopback address: make one with `banmesh keygen`, or set gossip.insecure: true", c.Gossip.Bind))
	}
	for i, addr := range c.Join {
		if err := gossip.CheckAddr(addr); err != nil {
			bad.add(field(fmt.Sprintf("join[%d]", i), "%v", err))
		}
	}
	return bad.err()
}
