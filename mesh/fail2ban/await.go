package fail2ban

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	// awaitFor is how long a fail2ban that has just been restarted may take until it answers and has its jails.
	awaitFor   = 15 * time.Second
	awaitEvery = 250 * time.Millisecond
)

// Await waits at most 15 s for a fail2ban that does not run or has no jail yet: after a start it answers late, and its jails
// come one after the other. It returns an error if fail2ban does not run even then, but not if it only lacks jails. waiting is
// called once if there is something to wait for.
func Await(ctx context.Context, client *Client, waiting func()) error {
	began := time.Now()
	var before []string
	for first := true; ; first = false {
		jails, err := client.jails(ctx)
		switch {
		case err != nil && !errors.Is(err, ErrNotRunning):
			return err
		// Twice the same list: while fail2ban starts, jails are added one by one.
		case err == nil && len(jails) > 0 && (first || slices.Equal(jails, before)):
			return nil
		case time.Since(began) >= awaitFor:
			return err
		}
		if first {
			waiting()
		}
		before = jails
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(awaitEvery):
		}
	}
}
