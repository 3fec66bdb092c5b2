package enforce

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// Element is a range of addresses of one family that the router drops.
// A router drops ranges and not prefixes: cutting an allowed address out of a /8 leaves two of them, but many prefixes.
type Element struct {
	From, To netip.Addr    // both included
	Left     time.Duration // until the router forgets it by itself; 0 is never
}

// Driver holds the elements on this router. Fix, Apply and Dropped are called from one goroutine at a time, Held and Watch from
// another one each. An error that matches os.ErrPermission means that this process lacks the permission.
type Driver interface {
	// Name is the driver's name in the configuration.
	Name() string

	// Caveat is what this router cannot promise as of the last Fix, in plain words; "" if there is nothing to say or it is
	// unknown.
	Caveat() string

	// Fix checks everything that the driver needs on this router except the elements, and repairs what it can without touching
	// them. The error is ErrAbsent or ErrUnreadable if the next change has to make everything anew.
	Fix(ctx context.Context) error

	// Held returns the router's elements, in any order, and changes nothing. It may miss what changes meanwhile. The error is
	// ErrUnreadable if it cannot tell, or not within the patience.
	Held(ctx context.Context, patience time.Duration) ([]Element, error)

	// Look returns the elements that contain one of the addresses, as of its return.
	Look(ctx context.Context, addresses []netip.Addr) ([]Element, error)

	// Apply makes a change in one step: an address that is dropped before and after is dropped throughout. The error is
	// ErrStale if the router does not hold what was assumed; after any error, nothing of the change is done.
	Apply(ctx context.Context, c Change) error

	// Watch calls tell for whatever others do to the driver's part of this router, until ctx ends or an error occurs. It first
	// calls tell with Lost, once it would see everything. Apply may call tell too.
	Watch(ctx context.Context, tell func(News)) error

	// Dropped counts what the router has dropped because of the elements since they were made.
	Dropped(ctx context.Context) (Drops, error)

	// Remove deletes everything that the driver ever put on this router.
	Remove(ctx context.Context) error
}

// Change is one step of a driver.
type Change struct {
	Anew bool      // everything of the driver's is deleted and made anew
	Del  []Element // with the ends that Held or Look returned or a change added
	Add  []Element // they overlap no element that stays
}

// News is what others did to the driver's part of a router.
type News struct {
	Elements []netip.Addr // the first and the last address of each element that was added or deleted
	Layout   bool         // something that Fix checks
	Lost     bool         // news may have been missed: anything may have changed
}

// Drops counts dropped traffic.
type Drops struct{ Packets, Bytes uint64 }

var (
	// ErrStale means that the router does not hold what was assumed: somebody else changed it, or something expired.
	ErrStale = errors.New("the router holds something else than expected")

	// ErrUnreadable means that the router's content is of another version or too much to be read.
	ErrUnreadable = errors.New("cannot tell what the router holds")

	// ErrAbsent means that the router holds nothing of the driver's.
	ErrAbsent = errors.New("the router holds nothing")

	// errNoNamespace means that there is no network namespace of the configured name, and so nothing of the driver's either.
	errNoNamespace = errors.New("there is no network namespace")
)
