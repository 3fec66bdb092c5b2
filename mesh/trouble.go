package mesh

import (
	"time"

	"banmesh/mesh/alert"
	"banmesh/mesh/enforce/jail"
	"banmesh/mesh/warning"
)

// trouble is what an operator is told of beside what the rooms say of themselves.
type trouble struct {
	alerts   *alert.Watcher // nil where no command is configured
	lifts    warning.Lifts
	former   string // the name that the store was written under, where it is another; else ""
	table    string // why the nftables table of an earlier run is still there; else ""
	jails    *jail.Former
	reloaded reloaded
}

// watchTrouble is one look of the alerts; nothing where no command is set.
// Called each second by pulse. The alert's command runs elsewhere and delays nothing here.
func (a *Agent) watchTrouble() {
	if a.trouble.alerts == nil {
		return
	}
	f := alert.Facts{
		Router: a.cfg.Name, Members: a.mesh.Members(), InSync: a.mesh.InSync(), Commit: a.lead.status(), Lead: a.lead.elector.Status(),
		Commits: a.lead.committer != nil, Held: a.heldWarning(), Store: a.store.Health(),
	}
	if a.lead.stall != nil {
		f.Stalled = a.lead.stall.Warning()
	}
	a.trouble.alerts.Look(time.Now(), f)
}
