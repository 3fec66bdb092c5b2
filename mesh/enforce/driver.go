package enforce

import (
	"context"
	"net/netip"
	"time"
)

// Element is a range of addresses of one family that the router drops.
type Element struct {
	From, To netip.Addr    // both included
	Left     time.Duration // until the router forgets it by itself; 0 is never
}

// Driver is what holds the elements on this router. Its methods are called from one goroutine at a time. An error that
// is os.ErrPermission says that this process may not; ErrStale, that the router does not hold what Held told last.
type Driver interface {
	// Name is the driver's name in the configuration.
	Name() string

	// Held returns what the router holds, disjoint, in no order. It changes nothing.
	Held(ctx context.Context) ([]Element, error)

	// Apply takes elements away, each as Held told it or Apply was given it, and adds others, which overlap none that stay.
	// No address that is covered before and after is uncovered meanwhile. After an error the caller asks Held again.
	Apply(ctx context.Context, del, add []Element) error

	// Remove takes away all that the driver ever put on this router.
	Remove(ctx context.Context) error
}
