package mesh

import (
	"context"
	"slices"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/enforce/jail"
	"banmesh/store"
)

// TakeIn takes the bans that the local fail2ban held before it knew of banmesh.
// They count as its replay at a start: what is known changes nothing, and what
// was lifted stays lifted.
func (a *Agent) TakeIn(ctx context.Context, c control.TakeInCall) (control.TakeInReply, error) {
	a.waiting.drainFirst(ctx)
	// Short bans stay on the router, as they do when a hook tells of them.
	least := store.Millis(time.Duration(a.cfg.Bans.MinDuration).Milliseconds())
	// Also of jails that earlier runs filled and that are not empty yet.
	fed := jail.Filled(a.store)
	var reply control.TakeInReply
	reqs := make([]store.BanRequest, 0, len(c.Bans))
	for _, b := range c.Bans {
		by, known := a.fail2ban.shift(b.Jail, b.Prefix, b.Start)
		shift := store.Millis(by.Milliseconds())
		q := store.BanRequest{Prefix: b.Prefix, Jail: b.Jail, Start: store.Millis(b.Start) + shift, Until: store.Millis(b.Until), Restored: true}
		if q.Until != store.Never {
			q.Until += shift
		}
		ahead := !known && a.fail2ban.ahead(q.Start.Time())
		// What the mesh has put into its own jail must not come back as this router's ban.
		ours := a.cfg.Enforce.IsMeshJail(q.Jail) || slices.Contains(fed, q.Jail)
		short := q.Until != store.Never && q.Until-q.Start < least
		if ahead || ours || short || !a.cfg.Share.Has(q.Jail) {
			reply.Unshared++
			continue
		}
		reqs = append(reqs, q)
	}
	banned, err := a.store.Ban(ctx, reqs)
	if err != nil {
		return control.TakeInReply{}, refusal(err)
	}
	for i, o := range banned {
		if err := a.count(&reply.BanReply, o.Outcome, reqs[i].Prefix); err != nil {
			return reply, err
		}
	}
	return reply, nil
}
