package gossip

import "time"

// MemberState is the state of a member as this one sees it.
type MemberState uint8

// The states. A suspected member is still alive.
const (
	Alive  MemberState = iota
	Left               // it said so
	Failed             // it fell silent
)

func (s MemberState) String() string {
	switch s {
	case Alive:
		return "alive"
	case Left:
		return "left"
	}
	return "failed"
}

// Member is one member, possibly this one.
type Member struct {
	Name     string
	Addr     string // ip:port
	State    MemberState
	Self     bool
	Eligible bool
	Priority int
	Agrees   Agreement     // whether its root agrees with this member's
	Agreed   time.Time     // when it last agreed; zero for never
	Mute     MuteDirection // a direction in which UDP does not pass although TCP does
	NoStream error         // why it does not answer by a stream; nil where it does
	Stuck    error         // why it still does not agree after several exchanges
	Skew     time.Duration // its clock minus ours, 0 until measured
	Version  string
	Seen     time.Time // when it was last heard of
	Since    time.Time // since when it is in its state; zero for this member
}

// Agreement says whether another member is known to hold the same records.
type Agreement uint8

// The agreements. Unknown means that nothing was heard of it for longer than expected.
const (
	Unknown Agreement = iota
	Agrees
	Differs
)

func (a Agreement) String() string { return [...]string{"unknown", "yes", "no"}[a] }

// MuteDirection is a direction in which UDP does not pass between two members.
type MuteDirection uint8

// The directions, seen from this member.
const (
	MuteNone MuteDirection = iota
	MuteFrom               // packets from the other one do not arrive here
	MuteTo                 // packets from this one do not arrive there
)

func (m MuteDirection) String() string { return [...]string{"", "from", "to"}[m] }

// EventKind says what happened to a member.
type EventKind uint8

// The kinds of member events.
const (
	MemberJoined EventKind = iota
	MemberLeft
	MemberFailed
	MemberUpdated
	NameConflict // another live member has our name; Member.Addr is its address
)

func (k EventKind) String() string {
	return [...]string{"join", "leave", "failed", "update", "conflict"}[k]
}

// MemberEvent is passed to Config.OnMember.
type MemberEvent struct {
	Kind   EventKind
	Member Member
}
