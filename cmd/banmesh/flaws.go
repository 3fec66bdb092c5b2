package main

import (
	"banmesh/mesh"
	"banmesh/mesh/config"
	"banmesh/mesh/doctor"
)

// flaws are the places of the agent that others on this router can change.
func flaws(cfg *config.Config) []doctor.Finding {
	var out []doctor.Finding
	for _, f := range mesh.Flaws(cfg, -1) {
		out = append(out, doctor.Finding{Severity: doctor.Serious, What: f.What, Why: f.Why, Fix: f.Fix})
	}
	return out
}
