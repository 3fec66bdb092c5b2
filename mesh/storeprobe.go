package mesh

import (
	"context"
	"time"

	"banmesh/store"
)

// probeEvery bounds for how long a disk that became read-only, full or silent goes
// unnoticed where no ban comes. Until then this router would be called well, and
// could be elected.
const probeEvery = time.Minute

// storeProbe writes to the store's file now and then. What comes of it is in the
// store's Health.
// It holds one request: several that come before the write are the same.
type storeProbe chan struct{}

func newStoreProbe() storeProbe { return make(storeProbe, 1) }

// soon has the next write come at once: an election is near.
func (p storeProbe) soon() {
	select {
	case p <- struct{}{}:
	default:
	}
}

// run may hang with the disk.
func (p storeProbe) run(ctx context.Context, set *store.Store) error {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-p:
		}
		// Deleting a key that is not there still writes and syncs a transaction.
		_ = set.SaveMeta(ctx, "probe", nil)
	}
}
