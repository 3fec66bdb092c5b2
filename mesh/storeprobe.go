package mesh

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"banmesh/internal/shell"
	"banmesh/store"
)

// probeEvery bounds for how long a disk that became read-only, full or silent goes
// unnoticed where no ban comes. Until then this router would be called well, and
// could be elected.
const probeEvery = time.Minute

// storeProbe writes to the store's file now and then, and looks at the room beside it. What
// comes of the writes is in the store's Health.
type storeProbe struct {
	asked chan struct{} // one: several requests that come before the write are the same
	dir   string
	left  atomic.Int64              // bytes on the disk, −1 as long as that is not known
	tried atomic.Pointer[time.Time] // when the last write began that has ended
	done  func()                    // called after each; may be nil
}

// triedSince reports whether a write has begun since then and ended. If none has, the next comes at once.
func (p *storeProbe) triedSince(t time.Time) bool {
	if at := p.tried.Load(); at != nil && !at.Before(t) {
		return true
	}
	p.soon()
	return false
}

// newStoreProbe knows no free space (-1) until it has looked.
func newStoreProbe(dir string) *storeProbe {
	p := &storeProbe{asked: make(chan struct{}, 1), dir: dir}
	p.left.Store(-1)
	return p
}

// soon has the next write come at once: an election is near.
func (p *storeProbe) soon() {
	select {
	case p.asked <- struct{}{}:
	default:
	}
}

// run may hang with the disk.
func (p *storeProbe) run(ctx context.Context, set *store.Store) error {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		if left, ok := store.FreeSpace(p.dir); ok {
			p.left.Store(left)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-p.asked:
		}
		began := time.Now()
		// Deleting a key that is not there still writes and syncs a transaction.
		_ = set.SaveMeta(ctx, "probe", nil)
		p.tried.Store(&began)
		if p.done != nil {
			p.done()
		}
	}
}

// warning says that the disk is nearly full, "" where it is not.
func (p *storeProbe) warning() string {
	if left := p.left.Load(); left >= 0 && left < store.ScarceSpace {
		return fmt.Sprintf("the disk of %s has %d KiB left, and new bans are refused as soon as it is full: make room on it (`df %s`)", p.dir, left>>10, shell.Quote(p.dir))
	}
	return ""
}
