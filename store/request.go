package store

import "net/netip"

// BanRequest asks for one ban.
type BanRequest struct {
	Prefix       netip.Prefix
	Jail         string // "" = manual
	Start, Until Millis // Start 0 is now; give a start only if it identifies an offence (a replay, a spooled call)
	Failures     uint32
	Reason       string
	Restored     bool // fail2ban repeats it at its start
	Force        bool // lifts the caps on duration and width
}

// BanOutcome is what became of a BanRequest.
type BanOutcome uint8

// The outcomes.
const (
	BanNew         BanOutcome = iota + 1 // written
	BanExtended                          // a live own ban was replaced by one that ends later, or by a newer offence
	BanKnown                             // nothing written: a live own ban covers it
	BanStaysLifted                       // nothing written: the offence was lifted
	BanExpired                           // nothing written: it has ended already
	BanOverLimit                         // nothing written: this member's log is full
)

// Banned is what became of a BanRequest, and from when until when this member's ban of the jail and prefix now lasts. The times
// are zero if the request left no ban.
type Banned struct {
	Outcome      BanOutcome
	start, Until Millis
}

// String returns the outcome in lower case.
func (o BanOutcome) String() string {
	names := [...]string{"", "new", "extended", "known", "stays lifted", "expired", "over limit"}
	if int(o) < len(names) {
		return names[o]
	}
	return ""
}

// LiftRequest selects bans to lift: those of the Prefixes, or, if only All or Origin is set, those of every prefix. The other
// fields narrow it.
type LiftRequest struct {
	Prefixes      []netip.Prefix
	All           bool
	Jail          string
	Mine          bool   // only this member's bans
	Origin        string // only this member's bans
	Since         Millis // only offences that started then or later
	StartedBefore Millis // only offences that started before; 0 = no bound
	FromFail2ban  bool   // the local fail2ban has unbanned them already: no notice
	Confirmed     bool   // an operator confirmed this bulk command
}

// Lifted is what became of one prefix of a LiftRequest.
type Lifted struct {
	Prefix   netip.Prefix
	Offences int            // live offences that were lifted; 0 if it was not banned
	Covering []netip.Prefix // wider prefixes that are still banned and cover it, widest first
	Limited  bool           // not lifted: this member has lifted as much of other members' records as the limits permit
}

// AllowRequest asks for one allow.
type AllowRequest struct {
	Prefix  netip.Prefix
	Until   Millis // 0 = Never
	Comment string
}
