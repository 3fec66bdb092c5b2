package mesh

import (
	"log/slog"
	"time"

	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/netconf"
	"banmesh/mesh/conductor/rest"
	"banmesh/mesh/config"
)

// newConductor makes the conductor that the configuration names, nil for none.
func newConductor(k *config.Commit, door func(*config.Commit, conductor.Config) (*conductor.Conductor, error), log *slog.Logger) (*conductor.Conductor, error) {
	if k.Driver == "none" {
		return nil, nil
	}
	return door(k, conductor.Config{
		Tenant: k.Tenant, Neighborhood: k.Neighborhood, Description: k.Description,
		// The words are the configuration's; config.Validate has checked them.
		Validation: conductor.Validation(k.Validation), ValidateMode: conductor.ValidateMode(k.Validate),
		Timeout: time.Duration(k.Timeout), Logger: log,
	})
}

// realConductor is the one that is spoken to over the network.
func realConductor(k *config.Commit, c conductor.Config) (*conductor.Conductor, error) {
	switch k.Driver {
	case "netconf":
		return netconf.New(netconf.Config{Config: c, Addresses: k.Conductors, User: k.User, KeyFile: k.Key, KnownHosts: k.KnownHosts,
			SaveStartup: k.SaveStartup, HostKeyAlgorithms: k.HostKeyAlgorithms})
	case "rest":
		return rest.New(rest.Config{Config: c, URLs: k.Conductors, User: k.User, PasswordFile: k.PasswordFile, TokenFile: k.TokenFile,
			CAFile: k.CAFile, PinSHA256: k.PinSHA256, Candidate: rest.Candidate(k.Candidate)})
	}
	return nil, nil
}
