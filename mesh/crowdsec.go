package mesh

import (
	"cmp"
	"context"
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

// openCrowdSec makes the follower of a LAPI, where one is configured.
func (a *Agent) openCrowdSec() (err error) {
	c := &a.cfg.CrowdSec
	if c.URL == "" {
		return nil
	}
	a.crowdsec, err = crowdsec.New(crowdsec.Config{
		URL: c.URL, KeyFile: c.KeyFile, CAFile: c.CAFile, Origins: c.Origins, Interval: time.Duration(c.Interval),
		Apply: a.decided, Logger: a.log,
	})
	return err
}

// decided lifts what CrowdSec took back, and bans what it decided: in that order,
// and each whatever becomes of the other. What a LAPI no longer names without saying
// that it is gone, as after the loss of its data base, keeps its end: emptiness
// unbans nothing.
func (a *Agent) decided(ctx context.Context, c crowdsec.Change) error {
	shift := store.Millis(a.clock.shift().Milliseconds())
	var gone control.Prefixes
	soon := store.At(a.clock.now()) + sameEnd
	for _, p := range c.Gone {
		if a.ownBan(a.cfg.CrowdSec.Jail, p) > soon { // the others end by themselves
			gone = append(gone, p)
		}
	}
	var left []crowdsec.Decision
	for _, d := range c.Left {
		if a.ownBan(a.cfg.CrowdSec.Jail, d.Prefix) > store.At(d.Until)+shift+sameEnd { // for the one that went
			gone, left = append(gone, d.Prefix), append(left, d)
		}
	}
	err := a.takeBack(ctx, gone)

	var came []crowdsec.Decision
	for _, d := range c.New {
		until := store.At(d.Until) + shift
		if c.All && !a.knownDecision(d.Prefix, until) || !c.All && until-sameEnd > a.ownBan(a.cfg.CrowdSec.Jail, d.Prefix) {
			came = append(came, d)
		}
	}
	return cmp.Or(err, a.takeOver(ctx, append(left, came...)))
}

// takeBack lifts this router's bans for CrowdSec.
func (a *Agent) takeBack(ctx context.Context, gone control.Prefixes) error {
	if len(gone) == 0 {
		return nil
	}
	call := control.UnbanCall{Prefixes: gone, Jail: a.cfg.CrowdSec.Jail, Mine: true}
	_, err := a.unban(ctx, call, call)
	return err
}

// takeOver bans for decisions, but for those that an operator would have to force.
// What is refused keeps nothing else out; the first refusal is returned.
func (a *Agent) takeOver(ctx context.Context, all []crowdsec.Decision) (err error) {
	limits := a.cfg.Limits.Store()
	bans := make(control.OneBans, 0, len(all))
	for _, d := range all {
		if !control.Wide(d.Prefix) && limits.TooWide(store.KindBan, d.Prefix) == "" {
			bans = append(bans, control.OneBan{Prefix: d.Prefix, Jail: a.cfg.CrowdSec.Jail, Until: control.UntilAt(d.Until), Reason: scenario(d.Scenario)})
		}
	}
	if n := len(all) - len(bans); n > 0 {
		a.log.Warn("decisions of CrowdSec's are wider than /16 (IPv6: /32) or than limits allow: ban these by hand, with --force", "left_out", n)
	}
	for each := range slices.Chunk(bans, control.MaxEach) {
		_, failed := a.ban(ctx, control.BanCall{Each: each})
		err = cmp.Or(err, failed)
	}
	return err
}

// knownDecision says whether this router has banned for a decision before: after a
// start all of them are told again, and one that somebody has unbanned stays so.
func (a *Agent) knownDecision(p netip.Prefix, until store.Millis) bool {
	for _, f := range a.store.Explain(p).Facts {
		if !a.ownFact(f, a.cfg.CrowdSec.Jail, p) || f.State == store.FactExpired {
			continue
		}
		capped := f.Until < until && a.capped(f)
		if capped || until <= f.Until+sameEnd && f.Until <= until+sameEnd {
			return true
		}
	}
	return false
}

// capped says whether a ban ends where bans.max_duration has it end.
func (a *Agent) capped(f store.Fact) bool {
	most := store.Millis(time.Duration(a.cfg.Bans.MaxDuration).Milliseconds())
	return most > 0 && f.Until-f.Start >= most-1000
}

// ownBan is when this router's live ban of a jail and prefix ends, 0 where there is none.
func (a *Agent) ownBan(jail string, p netip.Prefix) (until store.Millis) {
	for _, f := range a.store.Explain(p).Facts {
		if a.ownFact(f, jail, p) && f.State == store.FactLive {
			until = max(until, f.Until)
		}
	}
	return until
}

func (a *Agent) ownFact(f store.Fact, jail string, p netip.Prefix) bool {
	return f.Kind == store.KindBan && f.Prefix == p && f.Origin == a.cfg.Name && f.Jail == jail
}

// scenario is why CrowdSec decided, as a ban's reason takes it.
func scenario(s string) string {
	s = control.OneLine(s)
	if control.CheckText("scenario", s) != nil {
		return "CrowdSec"
	}
	return s
}
