package fail2ban

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	// awaitFor is how long a fail2ban that has just been restarted may take until it
	// answers and its jails are there.
	awaitFor   = 15 * time.Second
	awaitEvery = 250 * time.Millisecond
)

// Await waits for a fail2ban that does not run, or has no jail yet, for 15 s at
// most: after a start it answers late, and its jails come one after the other. One
// that still does not run then is an error; one without jails is not. waiting is
// called once where there is something to wait for.
func Await(ctx context.Context, client *Client, waiting func()) error {
	began := time.Now()
	var before []string
	for first := true; ; first = false {
		jails, err := client.jails(ctx)
		switch {
		case err != nil && !errors.Is(err, ErrNotRunning):
			return err
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
