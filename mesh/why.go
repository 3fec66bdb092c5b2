package mesh

import (
	"context"
	"net/netip"
	"slices"

	"banmesh/mesh/control"
	"banmesh/mesh/geo"
	"banmesh/store"
)

// Why returns everything that covers an address or a network.
func (a *Agent) Why(_ context.Context, p netip.Prefix) (control.Why, error) {
	x := a.store.Explain(p)
	w := control.Why{
		IP: control.Bare(p.String()), Known: len(x.Facts)+x.Inside > 0, Banned: x.Banned, Effective: x.Effective(), ReasonNotEffective: x.Exemption,
		Except: x.Except, Inside: x.Inside,
	}
	var origins []string
	for _, f := range x.Facts {
		switch f.Kind {
		case store.KindBan:
			w.Bans = append(w.Bans, control.WhyBan{Prefix: f.Prefix.String(), State: factState(f), LiftedBy: f.By, Record: control.Record{
				Origin: f.Origin, Jail: f.Jail, Start: control.Time(f.Start), Until: control.Until(f.Until),
				Failures: f.Failures, Reason: f.Text,
			}})
			if !slices.Contains(origins, f.Origin) {
				origins = append(origins, f.Origin)
			}
		case store.KindLift:
			w.Lifts = append(w.Lifts, control.WhyLift{
				Prefix: f.Prefix.String(), Origin: f.Origin, Time: control.Time(f.Start), Until: control.Until(f.Until),
				Offences: liftedBy(x.Facts, f), Ignored: f.Why,
			})
		case store.KindAllow:
			w.Allows = append(w.Allows, control.Allow{
				Prefix: f.Prefix.String(), Since: control.Time(f.Start), Until: control.Until(f.Until), Comment: f.Text, Origin: f.Origin, Ignored: f.Why,
			})
		case store.KindNeverBan:
			origin := f.Origin
			// Loopback, link-local and the like, which no member has to publish.
			if origin == "" {
				origin = "builtin"
			}
			w.NeverBans = append(w.NeverBans, control.WhyNeverBan{Prefix: f.Prefix.String(), Origin: origin, Ignored: f.Why})
		}
	}
	// Lifted and expired bans count as well: how often an address was banned is what the reader wants to know.
	w.Origins, w.Times = len(origins), len(w.Bans)
	if x.Banned && a.lead.committedNow()(p) {
		w.Committed, w.CommittedSince = true, a.placedSince(p)
	}
	if w.Effective && !w.Committed {
		w.WaitsForQuorum = a.lead.quorum.WaitFor(p)
	}
	places := geo.Open(*a.past.geo.Load())
	defer places.Close()
	w.Place = places.Of(p.Addr())
	return w, nil
}

// liftedBy counts the bans, as far as they are held, that the author of a lift
// lifted with it or another one of that prefix.
func liftedBy(facts []store.Fact, lift store.Fact) int {
	n := 0
	for _, f := range facts {
		if f.Kind == store.KindBan && f.Prefix == lift.Prefix && slices.Contains(f.By, lift.Origin) {
			n++
		}
	}
	return n
}

// placedSince is when a leader put what covers a prefix into the conductor, as
// far back as is remembered.
func (a *Agent) placedSince(of netip.Prefix) control.Time {
	var since store.Millis
	for _, p := range a.store.Placed() {
		if p.Prefix.Bits() <= of.Bits() && p.Prefix.Overlaps(of) && (since == 0 || p.First < since) {
			since = p.First
		}
	}
	return control.Time(since)
}

// factState prefers the reason why a record does not count to the bare word that it does not.
func factState(f store.Fact) string {
	if f.Why != "" {
		return f.Why
	}
	return f.State.String()
}
