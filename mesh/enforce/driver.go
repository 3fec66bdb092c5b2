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

// Driver is what holds the elements on this router. Its methods are called from one goroutine at a time. An error that
// is os.ErrPermission says that this process may not.
type Driver interface {
	// Name is the driver's name in the configuration.
	Name() string

	// Held returns what the router holds as of its return, disjoint, in no order, and changes nothing. The error is ErrUnreadable when the
	// router holds something that cannot be told: the next Apply replaces it.
	Held(ctx context.Context) ([]Element, error)

	// Touched reports whether somebody else may have changed what Held or Apply left, expiry aside.
	Touched(ctx context.Context) bool

	// Gone reports whether all that the driver put on this router is away, as after a firewall's reload. It is cheap.
	Gone(ctx context.Context) bool

	// Apply takes elements away, whose ends are those that Held told or Apply was given, and adds others, which overlap none
	// that stay. It is done in one step: an address that is dropped before and after is dropped meanwhile. Without elements
	// it only makes what the driver needs. The error is ErrStale when the router does not hold what was thought; after any
	// error, nothing of the step is done and the caller asks Held again.
	Apply(ctx context.Context, del, add []Element) error

	// Dropped is how many packets the router has dropped because of the elements.
	Dropped(ctx context.Context) (uint64, error)

	// Remove takes away all that the driver ever put on this router.
	Remove(ctx context.Context) error
}

var (
	// ErrStale is a driver's error when the router does not hold what was thought: somebody else changed it, or something
	// expired.
	ErrStale = errors.New("the router holds something else than expected")

	// ErrUnreadable is a driver's error when what the router holds is of another version, or too much to be read.
	ErrUnreadable = errors.New("what the router holds cannot be told")
)
