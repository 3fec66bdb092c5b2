package mesh

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/crowdsec"
	"banmesh/store"
)

// sameEnd is by how much the end of a decision may differ between two answers: it
// is told as a duration, by another clock.
const sameEnd = store.Millis(10_000)

// decisions turn CrowdSec's decisions into bans of this router.
type decisions struct {
	own     own
	jail    string // that marks them
	limits  store.Limits
	longest time.Duration // of a ban
	set     *store.Store
	clock   *clock
	log     *slog.Logger
	ban     func(context.Context, control.BanCall) (control.BanReply, error)
	unban   func(context.Context, control.UnbanCall) error
}

// apply lifts what CrowdSec took back, and bans what it decided: in that order,
// and each whatever becomes of the other. What a LAPI no longer names without saying
// that it is gone, as after the loss of its data base, keeps its end: emptiness
// unbans nothing.
func (ds *decisions) apply(ctx context.Context, c crowdsec.Change) error {
	shift := store.Millis(ds.clock.shift().Milliseconds())
	var gone control.Prefixes
	soon := store.At(ds.clock.now()) + sameEnd
	for _, p := range c.Gone {
		// Lifting what ends in a moment anyway would cost a record that all members keep.
		if ds.own.until(ds.jail, p) > soon { // the others end by themselves
			gone = append(gone, p)
		}
	}
	var left []crowdsec.Decision
	for _, d := range c.Left {
		if ds.own.until(ds.jail, d.Prefix) > store.At(d.Until)+shift+sameEnd { // for the one that went
			gone, left = append(gone, d.Prefix), append(left, d)
		}
	}
	err := ds.takeBack(ctx, gone)

	var came []crowdsec.Decision
	for _, d := range c.New {
		until := store.At(d.Until) + shift
		if c.All && !ds.knownDecision(d.Prefix, until) || !c.All && until-sameEnd > ds.own.until(ds.jail, d.Prefix) {
			came = append(came, d)
		}
	}
	return cmp.Or(err, ds.takeOver(ctx, append(left, came...)))
}

// takeBack lifts this router's bans for CrowdSec.
func (ds *decisions) takeBack(ctx context.Context, gone control.Prefixes) error {
	if len(gone) == 0 {
		return nil
	}
	// Mine: what other routers, or this one's fail2ban, have banned stays.
	call := control.UnbanCall{Prefixes: gone, Jail: ds.jail, Mine: true}
	return ds.unban(ctx, call)
}

// takeOver bans for decisions, but for those that an operator would have to force.
// What is refused keeps nothing else out; the first refusal is returned.
func (ds *decisions) takeOver(ctx context.Context, all []crowdsec.Decision) (err error) {
	bans := make(control.OneBans, 0, len(all))
	for _, d := range all {
		if !control.Wide(d.Prefix) && ds.limits.TooWide(store.KindBan, d.Prefix) == "" {
			bans = append(bans, control.OneBan{Prefix: d.Prefix, Jail: ds.jail, Until: control.UntilAt(d.Until), Reason: scenario(d.Scenario)})
		}
	}
	if n := len(all) - len(bans); n > 0 {
		ds.log.Warn("decisions of CrowdSec's are wider than /16 (IPv6: /32) or than limits allow: ban these by hand, with --force", "left_out", n)
	}
	// One durable transaction each; a LAPI's community list has tens of thousands of entries.
	for each := range slices.Chunk(bans, control.MaxEach) {
		_, failed := ds.ban(ctx, control.BanCall{Each: each})
		err = cmp.Or(err, failed)
	}
	return err
}

// knownDecision says whether this router has banned for a decision before: after a
// start all of them are told again, and one that somebody has unbanned stays so.
func (ds *decisions) knownDecision(p netip.Prefix, until store.Millis) bool {
	for _, f := range ds.set.Explain(p).Facts {
		if !ds.own.made(f, ds.jail, p) || f.State == store.FactExpired {
			continue
		}
		capped := f.Until < until && ds.capped(f)
		if capped || until <= f.Until+sameEnd && f.Until <= until+sameEnd {
			return true
		}
	}
	return false
}

// capped says whether a ban ends where bans.max_duration has it end.
func (ds *decisions) capped(f store.Fact) bool {
	most := store.Millis(ds.longest.Milliseconds())
	// To the second, as ends are compared everywhere.
	return most > 0 && f.Until-f.Start >= most-1000
}

// scenario is why CrowdSec decided, as a ban's reason takes it.
func scenario(s string) string {
	s = control.OneLine(s)
	if control.CheckText("scenario", s) != nil {
		return "CrowdSec"
	}
	return s
}
