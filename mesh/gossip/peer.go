package gossip

import "time"

// peer is another member, present or past. What is embedded starts anew when the member does.
type peer struct {
	name  string
	addr  string
	host  string // whose vote its clock is, see voice
	meta  nodeMeta
	state MemberState
	since time.Time // when the state began
	seen  time.Time
	met   bool // it has answered at its address, in this or an earlier run of its own

	comparison
	reach
	clock
	goodbye
}

// comparison is what is known of a peer's set.
type comparison struct {
	sync      Agreement // when last compared
	compared  time.Time
	agreed    time.Time // when roots were last the same; kept over its restarts
	differing int       // comparisons in a row in which the roots differed; only an agreement resets it
	stuck     error     // why the last exchange led nowhere
	stalls    int       // exchanges in a row that led nowhere

	// fruitless counts the exchanges in a row that left the roots different and brought nothing new, or sent the same again.
	// Such exchanges become rarer and rarer.
	fruitless int
	// The same root given twice shows that the other side did not take what it was sent.
	gave     [16]byte // own root when something was last sent to it
	nextSync time.Time
}

// reach is what is known of the ways to a peer: packets by UDP, and streams.
type reach struct {
	asked      time.Time
	unanswered time.Time // the first probe or question by UDP since the last answer
	packet     time.Time // the last packet that came from its known address
	stream     time.Time // last exchange by stream
	looked     time.Time // when a stream to it was last opened to see whether that can be done
	noStream   error     // why that failed the last time
	lost       int       // times in a row that it failed
}

// clock is what is known of a peer's clock. A peer whose clock was measured has answered at its advertised address.
type clock struct {
	skew    time.Duration // its clock minus the steady time since our start
	hasSkew bool

	// What the last run told at the same host. It may differ now, and is worth what the clock of a member is that is gone.
	former    time.Duration
	hasFormer bool
}

// again is what is kept of a peer's clock when it is back, at the same host or another one.
func (c clock) again(sameHost bool) clock {
	switch {
	case !sameHost: // a vote about the time costs an address that answers
		return clock{}
	case c.hasSkew:
		return clock{former: c.skew, hasFormer: true}
	}
	return c
}

// goodbye is a peer's announcement that it leaves.
type goodbye struct {
	leavingRun uint64 // the run that announced it
	leavingAt  time.Time
}
