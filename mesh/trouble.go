package mesh

import (
	"context"
	"time"

	"banmesh/mesh/alert"
)

// openAlerts makes what has the operator's command told of trouble that lasts, where
// one is configured.
func (a *Agent) openAlerts() {
	c := &a.cfg.Alert
	if c.Command == "" {
		return
	}
	a.alerts = alert.New(alert.Config{
		Router: a.cfg.Name, After: time.Duration(c.After), Memory: a.store, Logger: a.log,
		Command: func(ctx context.Context, event []byte) error { return a.doors.Alert(ctx, c.Command, event, a.log) },
	})
}

// watchTrouble is one look of the alerts; nothing where no command is set.
func (a *Agent) watchTrouble() {
	if a.alerts == nil {
		return
	}
	f := alert.Facts{
		Router: a.cfg.Name, Members: a.mesh.Members(), InSync: a.mesh.InSync(), Commit: a.lead.status(), Lead: a.lead.elector.Status(),
		Commits: a.lead.committer != nil, Held: a.heldWarning(), Store: a.store.Health(),
	}
	if a.lead.stall != nil {
		f.Stalled = a.lead.stall.warning()
	}
	a.alerts.Look(time.Now(), f)
}
