package gossip

import (
	"errors"
	"sync"
)

// outreach bounds the streams and packets that this member sends to addresses at which nobody has ever answered it. A holder of the
// gossip key makes up members at addresses of its choice, and without a bound every router would knock there, again and again, and
// send each ban there.
//
// Addresses that an operator named (to join) and those of members that have answered are open. Of the others a few are tried at
// once; what answers as a member does costs nothing, so that a mesh that starts, or meets by TCP only, is not held up.
type outreach struct {
	answered func(addr string) bool // a member there has answered by UDP

	strange *pace // streams to the others
	packets *pace // packets to them

	mu   sync.Mutex
	open map[string]struct{}
}

const (
	strangeRate  = 1 // a second
	strangeBurst = 32
	// A member that starts in a large mesh asks maxUnproven others twice before any has answered, and is asked as often.
	strangePacketBurst = 4 * maxUnproven
	strangePacketRate  = 64
	maxOpen            = 2 * maxKnown
)

// newOutreach takes every host for a stranger until Mesh says which members have answered.
func newOutreach() outreach {
	return outreach{
		answered: func(string) bool { return false },
		strange:  newPace(strangeRate, strangeBurst),
		packets:  newPace(strangePacketRate, strangePacketBurst),
	}
}

var errStrange = errors.New("not tried now: nobody has answered there yet, nor at other addresses of members tried lately")

// named opens addresses that come from an operator.
func (r *outreach) named(addrs ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range addrs {
		r.note(a)
	}
}

// note opens an address. Called with the lock held.
func (r *outreach) note(addr string) {
	if len(r.open) >= maxOpen {
		clear(r.open) // each is earned again by one answer
	}
	if r.open == nil {
		r.open = make(map[string]struct{})
	}
	r.open[addr] = struct{}{}
}

// try says whether a stream may be opened to the address now. answered is called if somebody answers there as a member does.
func (r *outreach) try(addr string) (answered func(), err error) {
	known := r.answered(addr)
	r.mu.Lock()
	defer r.mu.Unlock()
	if known {
		r.note(addr)
	}
	if _, open := r.open[addr]; open {
		return func() {}, nil
	}
	if r.strange.take(1) > 0 {
		return nil, errStrange
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.note(addr)
		r.strange.give(1)
	}, nil
}

// packet says whether a packet may be sent to the address now.
func (r *outreach) packet(addr string) bool {
	if r.answered(addr) {
		return true
	}
	r.mu.Lock()
	_, open := r.open[addr]
	r.mu.Unlock()
	return open || r.packets.take(1) == 0
}
