package netconf

import (
	"errors"
	"strings"

	"banmesh/mesh/conductor"
	"banmesh/netconfclient"
)

// Config says where the conductor is, how to log in, and which tenant to keep.
type Config struct {
	conductor.Config

	Addresses  []string // host:port of the conductor's nodes, tried in turn, starting with the last one that worked
	User       string
	KeyFile    string // private key in OpenSSH or PEM form, readable by its owner only
	KnownHosts string // in OpenSSH's format
	// HostKeyAlgorithms are accepted besides the usual ones: ssh-rsa, for a server that has no other.
	HostKeyAlgorithms []string

	// SaveStartup copies running to startup after a commit, where the server has one.
	SaveStartup bool
}

// DefaultConfig returns a Config without addresses, key and known hosts.
func DefaultConfig() Config { return Config{Config: conductor.DefaultConfig(), User: "admin"} }

// Validate returns an error that names every unusable field and its value.
func (c Config) Validate() error {
	errs := []error{c.Config.Validate()}
	bad := func(field string, value any, why string) { errs = append(errs, conductor.Bad(field, value, why)) }
	if len(c.Addresses) == 0 {
		bad("addresses", "", "at least one conductor's host:port is needed")
	}
	for _, a := range c.Addresses {
		if err := netconfclient.CheckAddress(a); err != nil {
			bad("address", a, err.Error())
		}
	}
	if c.User == "" || strings.ContainsAny(c.User, " \t\r\n\x00") {
		bad("user", c.User, "must be a user name")
	}
	if c.KeyFile == "" {
		bad("key file", c.KeyFile, "is needed")
	}
	if c.KnownHosts == "" {
		bad("known hosts", c.KnownHosts, "is needed")
	}
	return errors.Join(errs...)
}
