package store

import (
	"net/netip"
	"strconv"
)

// Kind tells the records apart, in memory, on the wire and in the file.
type Kind uint8

// The kinds of record.
const (
	KindBan Kind = iota + 1
	KindLift
	KindAllow
	KindNeverBan
	KindPlaced
	KindFreeze
	KindBlock
	KindGone   // own records that are withdrawn, see goneRange
	KindForget // a member that has failed is not looked for any more

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

// Body is what a record says. Its log and number are kept beside it.
type Body interface{ Kind() Kind }

// Offence is what a Lift removes: what one member reported of one prefix in one jail at one time. It is the same
// offence over prolongations, replays and restarts. A start in whole seconds is the same within one second, because
// fail2ban rounds; two starts that are not are the same only to the millisecond, so that a ban given again right after an
// unban is another offence.
type Offence struct {
	Origin, Jail string
	Start        Millis
}

func (o Offence) same(p Offence) bool {
	return o.Origin == p.Origin && o.Jail == p.Jail && sameStart(o.Start, p.Start)
}

func sameStart(a, b Millis) bool {
	if a%second != 0 && b%second != 0 {
		return a == b
	}
	d := a - b
	return -second <= d && d <= second
}

// Ban says that a member wants a prefix blocked.
type Ban struct {
	Prefix       netip.Prefix
	Jail         string
	Start, Until Millis // Until may be Never
	Failures     uint32
	Reason       string
	// Floor is the latest until of what this record replaced in its log where that is later than its own until, else 0.
	// The record is retained until then, so that a replaced one that comes back late is still refused.
	Floor Millis
}

// Lift removes the offences it names from its prefix (Bans), and the records it names by dot (all other kinds).
type Lift struct {
	Prefix    netip.Prefix // zero for what has no prefix: NeverBan, Freeze, Block
	Offences  []Offence
	Dots      []DotRange
	Start     Millis // when it was written
	Until     Millis // the last moment at which a ban of its offences can be live, or until what its Dots name does
	Confirmed bool   // a bulk command that an operator confirmed
}

// Allow says that a prefix must not be blocked, whoever bans it.
type Allow struct {
	Prefix       netip.Prefix
	Start, Until Millis
	Comment      string
	Floor        Millis // as in Ban
}

// NeverBan is a member's lease on what must never be blocked for its sake. The one with the latest until counts.
type NeverBan struct {
	Prefixes     []netip.Prefix
	Start, Until Millis
	Floor        Millis // as in Ban
}

// Placed is a leader's lease on a prefix that it put into the conductor: only what was placed is ever removed there.
type Placed struct {
	Prefix       netip.Prefix
	Start, Until Millis
	Floor        Millis // as in Ban
}

// Freeze stops additions, mesh-wide, until it is lifted.
type Freeze struct{ Start Millis }

// Block makes everything of Origin count for nothing, what it wrote and what is still to come, until it is lifted.
type Block struct {
	Origin string
	Start  Millis
}

// Forget says that a member is not coming back, if it failed before Start: a member that lives is not forgotten, and one that
// comes back is a member as before.
type Forget struct {
	Name  string
	Start Millis
}

// Kind returns KindForget.
func (Forget) Kind() Kind { return KindForget }

// Kind returns KindBan.
func (Ban) Kind() Kind { return KindBan }

// Kind returns KindLift.
func (Lift) Kind() Kind { return KindLift }

// Kind returns KindAllow.
func (Allow) Kind() Kind { return KindAllow }

// Kind returns KindNeverBan.
func (NeverBan) Kind() Kind { return KindNeverBan }

// Kind returns KindPlaced.
func (Placed) Kind() Kind { return KindPlaced }

// Kind returns KindFreeze.
func (Freeze) Kind() Kind { return KindFreeze }

// Kind returns KindBlock.
func (Block) Kind() Kind { return KindBlock }

// Bounds of what a record may hold. They keep a record that this package writes below 1,200 bytes (a NeverBan excepted),
// so that it fits a packet, and bound what a hostile peer can make us decode.
const (
	maxText      = 512  // bytes of a reason or a comment on the wire
	keepText     = 200  // bytes of a reason or a comment that are kept of what a caller gives
	maxOffences  = 128  // of a Lift on the wire; one that this package writes has at most 76
	maxDots      = 128  // of a Lift on the wire; likewise 38
	maxNeverBans = 256  // prefixes of a NeverBan
	maxRecord    = 1200 // bytes of a record that this package writes
)
