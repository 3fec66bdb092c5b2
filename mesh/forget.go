package mesh

import (
	"context"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
)

// Forget takes a member that has failed off the books of all routers. Its bans
// stay until they end.
func (a *Agent) Forget(ctx context.Context, c control.ForgetCall) error {
	if c.Name == a.cfg.Name {
		return control.Errorf(control.CodeConflict, "forget %s: that is this router: banmesh leave stops it", c.Name)
	}
	m, known := a.mesh.Member(c.Name)
	switch {
	case !known && !a.mesh.Remembers(c.Name):
		return control.Errorf(control.CodeConflict, "forget %s: no member has that name: banmesh members lists them", control.Show(c.Name))
	case known && m.State == gossip.Alive:
		return control.Errorf(control.CodeConflict, "forget %s: it is alive at %s: stop it there first (banmesh leave)", c.Name, m.Addr)
	}
	if err := a.store.Forget(ctx, c.Name); err != nil {
		return refusal(err)
	}
	a.forgetMembers()
	return nil
}

// forgetMembers takes off the books whom any router has said to forget.
// Called each second as well: any router may have said it, and the record arrives like any other.
func (a *Agent) forgetMembers() {
	said := a.store.Forgotten()
	if len(said) == 0 {
		return
	}
	// The record's time is the mesh's, gossip compares with the host's.
	shift := a.clock.now().Sub(a.clock.raw())
	gone := make(map[string]time.Time, len(said))
	for name, at := range said {
		gone[name] = at.Time().Add(-shift)
	}
	for _, name := range a.mesh.Forget(gone) {
		a.log.Info("member forgotten", "member", name)
	}
}
