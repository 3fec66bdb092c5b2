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

// life is from when an agent is ready to its end: a stop, or a leave for good.
// Both a signal and `banmesh leave` end an agent, and both may come at once; the once makes that one announcement.
type life struct {
	ready   atomic.Bool        // the rooms are made: changes, messages and guests may reach them
	stop    context.CancelFunc // ends Run
	forGood atomic.Bool        // asked to leave the mesh, not only to stop

	once sync.Once
	err  error // of the announcement
}

// announce tells the others by leave, once, however often it is asked.
func (l *life) announce(ctx context.Context, leave func(context.Context) error) error {
	l.once.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, leaveWithin)
		defer cancel()
		l.err = leave(ctx)
	})
	return l.err
}

// takeOff takes the bans off this router where it leaves the mesh for good: nobody
// would end them any more. A restart and a crash keep them.
func (l *life) takeOff(ctx context.Context, e *enforcement) error {
	if e == nil || !l.forGood.Load() {
		return nil
	}
	return e.takeOff(ctx)
}
