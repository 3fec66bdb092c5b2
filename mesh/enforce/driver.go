package enforce

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// Element is a range of addresses of one family that the router drops.
type Element struct {
	From, To netip.Addr    // both included
	Left     time.Duration // until the router forgets it by itself; 0 is never
}

// Driver is what holds the elements on this router. Fix, Apply and Dropped are called from one goroutine at a time, Held
// and Watch from another each. An error that is os.ErrPermission says that this process may not.
type Driver interface {
	// Name is the driver's name in the configuration.
	Name() string

	// Caveat is what this router cannot promise as of the last Fix, in plain words; "" where there is nothing to say, or it is
	// not known.
	Caveat() string

	// Fix looks at all that the driver needs on this router, elements aside, and puts right what can be without them. The
	// error is ErrAbsent or ErrUnreadable where the next change has to make everything anew.
	Fix(ctx context.Context) error

	// Held returns what the router holds, in no order, and changes nothing. What is changed meanwhile may be missed. The error
	// is ErrUnreadable when it cannot be told, or not within the patience.
	Held(ctx context.Context, patience time.Duration) ([]Element, error)

	// Look returns those elements that hold one of the addresses, as of its return.
	Look(ctx context.Context, addresses []netip.Addr) ([]Element, error)

	// Apply does a change in one step: an address that is dropped before and after is dropped meanwhile. The error is ErrStale
	// when the router does not hold what was thought; after any error, nothing of the change is done.
	Apply(ctx context.Context, c Change) error

	// Watch calls tell with whatever somebody else does to what the driver put on this router, until ctx ends or the error.
	// It calls tell with Lost first, once it would see everything.
	Watch(ctx context.Context, tell func(News)) error

	// Dropped is what the router has dropped because of the elements, since they were made there.
	Dropped(ctx context.Context) (Drops, error)

	// Remove takes away all that the driver ever put on this router.
	Remove(ctx context.Context) error
}

// Change is what a driver does in one step.
type Change struct {
	Anew bool      // whatever the driver put on the router goes, and what it needs comes
	Del  []Element // their ends are those that Held or Look told or a change added
	Add  []Element // they overlap none that stay
}

// News is what somebody else did to what a driver put on this router.
type News struct {
	Elements []netip.Addr // the first and the last address of each element that was added or deleted
	Layout   bool         // something that Fix looks at
	Lost     bool         // anything: news may have been missed
}

// Drops is what was dropped.
type Drops struct{ Packets, Bytes uint64 }

var (
	// ErrStale is a driver's error when the router does not hold what was thought: somebody else changed it, or something
	// expired.
	ErrStale = errors.New("the router holds something else than expected")

	// ErrUnreadable is a driver's error when what the router holds is of another version, or too much to be read.
	ErrUnreadable = errors.New("cannot tell what the router holds")

	// ErrAbsent is a driver's error when the router holds nothing of the driver's.
	ErrAbsent = errors.New("the router holds nothing")
)
