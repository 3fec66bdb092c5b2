package mesh

import (
	"context"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/geo"
	"banmesh/mesh/history"
	"banmesh/store"
)

// pastNames are the names of the events that the history knows: monitor's.
func pastNames() map[store.EventKind]string {
	names := map[store.EventKind]string{history.EventLost: "error"}
	for kind, name := range eventNames {
		names[kind] = name
	}
	return names
}

// History returns what was, as this router saw it.
func (a *Agent) History(_ context.Context, q control.HistoryQuery) (control.History, error) {
	if err := a.past.refusal(); err != nil {
		return control.History{}, err
	}
	names := pastNames()
	query := history.Query{Prefix: q.Prefix, Jail: q.Jail, Origin: q.Origin, Since: store.Millis(q.Since), Limit: q.Limit}
	if query.Limit == 0 {
		query.Limit = control.MaxPast
	}
	for _, want := range q.Kinds {
		for kind, name := range names {
			if name == want {
				query.Kinds = append(query.Kinds, kind)
			}
		}
	}
	events, more, err := a.past.Events(query)
	if err != nil {
		return control.History{}, err
	}
	reply := control.History{Events: make([]control.Past, len(events)), More: more}
	for i := range events {
		reply.Events[i] = pastEvent(&events[i], names)
	}
	entries, from := a.past.Entries()
	reply.Entries, reply.From = entries, control.Time(from)
	return reply, nil
}

// pastEvent words an event of the history. An entry that only says how many were lost has nothing else.
func pastEvent(e *store.Event, names map[store.EventKind]string) control.Past {
	p := control.Past{
		Time: control.Time(e.Time), Event: names[e.Kind], Origin: e.Origin, Jail: e.Jail, By: e.By,
		Start: control.Time(e.Start), Failures: e.Failures, Reason: e.Text,
	}
	if e.Kind == history.EventLost {
		return control.Past{Time: p.Time, Event: p.Event, Lost: int(e.Failures)}
	}
	if e.Prefix.IsValid() {
		p.Prefix = e.Prefix.String()
	}
	if until := control.Until(e.Until); until != 0 {
		p.Until = &until
	}
	return p
}

// Stats counts what was and what is.
func (a *Agent) Stats(_ context.Context, q control.StatsQuery) (control.Stats, error) {
	if err := a.past.refusal(); err != nil {
		return control.Stats{}, err
	}
	places := geo.Open(*a.past.geo.Load())
	defer places.Close()
	sums, err := a.past.Sums(history.SumQuery{Since: store.Millis(q.Since), Top: q.Top, Each: places.Each()})
	if err != nil {
		return control.Stats{}, err
	}
	share := func(live, past int) control.Share { return control.Share{Live: live, Past: past, Total: live + past} }
	s := control.Stats{
		Time: control.At(a.clock.now()), Since: q.Since, From: control.Time(sums.Since), Bans: share(sums.Live, sums.Past),
		Lifts: sums.Lifts, Expired: sums.Expiries, Distinct: sums.Distinct,
		Jails: []control.NamedShare{}, Routers: []control.NamedShare{}, Networks: []control.NetShare{}, Repeaters: []control.Repeater{}, Days: []control.DayCount{},
	}
	for _, c := range sums.Jails {
		s.Jails = append(s.Jails, control.NamedShare{Name: c.Name, Share: share(c.Live, c.Past)})
	}
	for _, c := range sums.Routers {
		s.Routers = append(s.Routers, control.NamedShare{Name: c.Name, Share: share(c.Live, c.Past)})
	}
	for _, n := range sums.Networks {
		s.Networks = append(s.Networks, control.NetShare{Prefix: n.Prefix.String(), Share: share(n.Live, n.Past), Place: places.Of(n.Prefix.Addr())})
	}
	for _, r := range sums.Repeaters {
		s.Repeaters = append(s.Repeaters, control.Repeater{Prefix: r.Prefix.String(), Times: r.Times, Live: r.Live, Last: control.Time(r.Last)})
	}
	for _, d := range sums.Days {
		s.Days = append(s.Days, control.DayCount{Day: d.Day.Format(time.DateOnly), Bans: d.Bans, Lifts: d.Lifts, Expired: d.Expiries})
	}
	s.ASNs, s.Countries = places.Top(q.Top)
	s.Unplaced = places.Trouble()
	return s, nil
}
