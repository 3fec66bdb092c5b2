package enforce

import "time"

// Status is what enforcement on this router is doing.
type Status struct {
	Driver     string    // none, nftables or fail2ban
	State      State     // what it does now
	Detail     string    // in plain words: why, and what to do about it; "" while all is well
	Since      time.Time // when State began
	Elements   int       // what is on the router: ranges of addresses, or bans
	Batches    uint64    // changes that the router has taken, since the start
	Dropped    uint64    // packets dropped, as the router counts them; at most a minute old
	Failures   uint64    // changes that it refused, since the start
	LastError  string    // of the last one refused; "" when none was
	Reconciled time.Time // when the router was last compared with the set; zero: not yet
}

// State is what enforcement is doing.
type State string

// The states. The first is that of a router where it is not configured.
const (
	Off     State = "off"
	Waiting State = "waiting" // for the first exchange with the peers
	On      State = "on"
	Frozen  State = "frozen"  // nothing is added
	Failing State = "failing" // the router refuses; tried again
	Limited State = "limited" // more bans than may be enforced
)
