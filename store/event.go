package store

import "net/netip"

// Event is one thing that happened to the set, for the monitor.
type Event struct {
	Time         Millis
	Kind         EventKind
	Prefix       netip.Prefix
	Origin, Jail string
	By           string // who lifted, dropped or thawed it
	Start, Until Millis
	Failures     uint32
	Text         string // the reason of a ban, the comment of an allow
}

// EventKind tells events apart.
type EventKind uint8

// The kinds of event.
const (
	EventBan EventKind = iota + 1
	EventExtend
	EventLift
	EventExpire
	EventAllow
	EventDisallow
	EventNeverBan
	EventPlaced
	EventFreeze
	EventThaw
	EventBlock
	EventUnblock
	EventForget
)

// String returns the event's name in lower case.
func (k EventKind) String() string {
	names := [...]string{"", "ban", "extend", "lift", "expire", "allow", "disallow", "never-ban", "placed", "freeze", "thaw", "block", "unblock", "forget"}
	if int(k) < len(names) {
		return names[k]
	}
	return ""
}

// Change is what happened since the last one: changes in quick succession are combined.
type Change struct {
	OwnHead bool    // the own log has a newer head, to be announced
	Events  []Event // at most 10,000
	More    int     // events beyond that
	Rest    []Event // the first of those beyond, with Config.KeepRest
}
