package mesh

import (
	"net/netip"
	"time"

	"banmesh/mesh/commit"
	"banmesh/mesh/control"
	"banmesh/store"
)

// eventNames are the names in `monitor --json`; what has none there is the
// mesh's own bookkeeping.
var eventNames = map[store.EventKind]string{
	store.EventBan: "ban", store.EventExtend: "extend", store.EventLift: "lift", store.EventExpire: "expire",
	store.EventAllow: "allow", store.EventDisallow: "disallow", store.EventFreeze: "freeze", store.EventThaw: "thaw",
	store.EventBlock: "block", store.EventUnblock: "unblock",
}

// storeEvents are a change of the set for who monitors, at the time of now: the
// set itself looks at its clock only as often as expiry needs.
func storeEvents(c store.Change, now time.Time) []control.Event {
	at := control.At(now)
	out := make([]control.Event, 0, len(c.Events))
	for _, e := range c.Events {
		name, shown := eventNames[e.Kind]
		if !shown {
			continue
		}
		event := control.Event{
			Time: at, Event: name, Origin: e.Origin, Jail: e.Jail, By: e.By,
			Start: control.Time(e.Start), Until: control.Until(e.Until),
		}
		if e.Prefix != (netip.Prefix{}) {
			event.Prefix = e.Prefix.String()
		}
		out = append(out, event)
	}
	if c.More > 0 {
		out = append(out, control.Event{
			Time: at, Event: "error", Lost: c.More, Error: "a bulk change: not every one is listed",
		})
	}
	return out
}

// urgency is how soon the committer must look at a change.
func urgency(c store.Change) (commit.Urgency, bool) {
	u, any := commit.Expiry, c.More > 0
	for _, e := range c.Events {
		switch e.Kind {
		// Somebody waits to get through again; nothing is more urgent.
		case store.EventLift, store.EventAllow, store.EventNeverBan, store.EventBlock:
			return commit.Removal, true
		case store.EventBan, store.EventDisallow, store.EventThaw, store.EventUnblock:
			u, any = commit.Addition, true
		case store.EventExpire:
			any = true
		}
	}
	if c.More > 0 {
		// Nobody knows what the unlisted changes are, so the most urgent is assumed.
		u = commit.Removal
	}
	return u, any
}
