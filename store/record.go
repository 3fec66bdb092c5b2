package store

import "strconv"

// Kind tells the records apart, in memory, on the wire and in the file.
type Kind uint8

// The kinds of record. What each of them carries is in item. The floor is the latest until of the records that this one
// replaced in its log, if that is later than its own: a replaced record that comes back late is refused by it.
const (
	KindBan      Kind = iota + 1 // a member wants a prefix blocked: jail, start, until (may be Never), failures, reason, floor
	KindLift                     // removes the offences it names from its prefix, and records of all other kinds by their dots
	KindAllow                    // a prefix must not be blocked, whichever member bans it
	KindNeverBan                 // a member's lease on what must never be blocked for its sake; the one with the latest until counts
	KindPlaced                   // a leader's lease on a prefix that it put into the conductor: only such are ever removed there
	KindFreeze                   // stops additions, mesh-wide, until it is lifted
	KindBlock                    // nothing of an origin counts, past or future, until it is lifted
	KindGone                     // own records that are withdrawn, see goneRange
	KindForget                   // a member that failed before the record's start is no longer looked for; a live member refutes it

	kindEnd // first kind that this version does not know
)

// String returns the kind's name in lower case.
func (k Kind) String() string {
	names := [...]string{"", "ban", "lift", "allow", "never-ban", "placed", "freeze", "block", "gone", "forget"}
	if k > 0 && int(k) < len(names) {
		return names[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

// offence is what a Lift removes: one member's report of one prefix in one jail at one time. Prolongations, replays and
// restarts leave it the same offence. A start in whole seconds matches within one second, because fail2ban rounds. Other starts
// match to the millisecond only, so that a ban given again right after an unban is another offence.
type offence struct {
	Origin, Jail string
	Start        Millis
}

func (o offence) same(p offence) bool {
	return o.Origin == p.Origin && o.Jail == p.Jail && sameStart(o.Start, p.Start)
}

// sameStart reports whether two starts are of one offence. See offence for why whole seconds are
// matched within a second.
func sameStart(a, b Millis) bool {
	if a%second != 0 && b%second != 0 {
		return a == b
	}
	d := a - b
	return -second <= d && d <= second
}

// Bounds of a record. They keep the records that this package writes below 1,200 bytes (except a NeverBan), so that each fits a
// packet, and bound what a hostile peer can make this member decode.
const (
	maxText      = 512  // bytes of a reason or a comment on the wire
	keepText     = 200  // bytes of a caller's reason or comment that are kept
	maxOffences  = 128  // of a Lift on the wire; one that this package writes has at most 76
	maxDots      = 128  // of a Lift on the wire; one that this package writes has at most 38
	maxNeverBans = 256  // prefixes of a NeverBan
	maxRecord    = 1200 // bytes of a record that this package writes
)
