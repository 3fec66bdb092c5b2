package mesh

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"banmesh/internal/sim/conductorsim"
	"banmesh/mesh/config"
	"banmesh/mesh/control"
)

// TestBanWaitsForItsQuorum: at once everywhere in the mesh, at the conductor
// when the second router has seen it too.
func TestBanWaitsForItsQuorum(t *testing.T) {
	t.Parallel()
	sim, commit := simulated(t, nil)
	quorum := config.Quorum{Default: 2}
	a := started(t, "router1", func(c *config.Config) { c.Commit, c.Quorum = commit, quorum })
	b := started(t, "router2", func(c *config.Config) { c.Commit, c.Quorum, c.Join = commit, quorum, []string{a.Addr()} })
	eventually(t, "two members", func() bool { return len(a.mesh.Members()) == 2 && len(b.mesh.Members()) == 2 })

	seen := func(at *Agent, jail, addr string) {
		t.Helper()
		_, err := at.Ban(t.Context(), control.BanCall{
			Prefixes: control.Prefixes{netip.MustParsePrefix(addr + "/32")}, Jail: jail, Until: control.UntilAt(time.Now().Add(time.Hour)),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	const lonely, shared, manual = "203.0.113.1", "203.0.113.2", "203.0.113.3"
	seen(a, "sshd", lonely)
	seen(a, "sshd", shared)
	seen(a, "", manual)
	eventually(t, "the ban at the other router", func() bool { return listing(t, b)[shared+"/32"].Effective })
	eventually(t, "the operator's ban at the conductor", func() bool { return slices.Equal(tenant(sim), []string{manual + "/32"}) })
	for _, at := range []*Agent{a, b} {
		if w := listing(t, at)[shared+"/32"].WaitsForQuorum; w == nil || *w != (control.QuorumWait{Jail: "sshd", Seen: 1, Needed: 2}) {
			t.Errorf("%s: the ban waits for %+v, want 1 of 2", at.cfg.Name, w)
		}
		why, err := at.Why(t.Context(), netip.MustParsePrefix(shared+"/32"))
		if err != nil || why.WaitsForQuorum == nil || why.Committed || why.Origins != 1 {
			t.Errorf("%s: why %+v, %v", at.cfg.Name, why, err)
		}
	}

	seen(b, "sshd", shared)
	eventually(t, "the ban of two routers at the conductor", func() bool {
		return slices.Equal(tenant(sim), []string{shared + "/32", manual + "/32"})
	})
	for _, at := range []*Agent{a, b} {
		eventually(t, "why to know of the commit", func() bool {
			why, err := at.Why(t.Context(), netip.MustParsePrefix(shared+"/32"))
			return err == nil && why.Committed && why.WaitsForQuorum == nil && why.Origins == 2 && why.Times == 2 &&
				time.Since(why.CommittedSince.Time()).Abs() < time.Minute
		})
	}
	if w := listing(t, a)[lonely+"/32"].WaitsForQuorum; w == nil {
		t.Error("the ban that one router has seen does not wait")
	}
}

// tenant is what the simulated conductor's running configuration blocks.
func tenant(sim *conductorsim.Sim) []string {
	out := sim.Addresses("blacklist-fail2ban", "internet")
	slices.Sort(out)
	return out
}
