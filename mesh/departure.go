package mesh

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// stopWithin bounds the whole clean stop; leaveWithin is the part of it that
	// the others are waited for.
	stopWithin  = 5 * time.Second
	leaveWithin = 2 * time.Second
	// takeOffWithin bounds a leave with the bans taken off: a fail2ban under load takes
	// seconds to empty a jail.
	takeOffWithin = 20 * time.Second
)

// departure is the end of an agent: a stop, or a leave for good.
type departure struct {
	stop    context.CancelFunc // ends Run
	forGood atomic.Bool        // asked to leave the mesh, not only to stop

	once sync.Once
	err  error // of the announcement
}

// announce tells the others by leave, once, however often it is asked.
func (d *departure) announce(ctx context.Context, leave func(context.Context) error) error {
	d.once.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, leaveWithin)
		defer cancel()
		d.err = leave(ctx)
	})
	return d.err
}

// takeOff takes the bans off this router where it leaves the mesh for good: nobody
// would end them any more. A restart and a crash keep them.
func (d *departure) takeOff(ctx context.Context, e *enforcement) error {
	if e == nil || !d.forGood.Load() {
		return nil
	}
	return e.takeOff(ctx)
}
