package gossip

import (
	"context"
	"sync"
	"time"
)

// viewWatch notices that others know other members, which memberlist's own gossip may leave so until its next push/pull.
type viewWatch struct {
	mu    sync.Mutex
	since time.Time // the first comparison in a row that differed
	looks int
	last  time.Time // the last push/pull
}

const (
	// Members come and go one after the other at each member, so that a short difference is normal.
	viewLooks = 3
	viewFor   = 2 * time.Second
	// Members that lie about their view can cause one push/pull in that time, however many they are.
	viewPause = 4 * time.Second
)

// look compares another member's digest of who is alive with the own one. A lasting difference is settled by
// a push/pull, which memberlist would make by itself only much later.
func (v *viewWatch) look(m *Mesh, name string, digest uint32) {
	now := time.Now()
	v.mu.Lock()
	if digest == m.table.digest.Load() {
		v.looks = 0
		v.mu.Unlock()
		return
	}
	if v.looks == 0 {
		v.since = now
	}
	v.looks++
	due := v.looks >= viewLooks && now.Sub(v.since) >= viewFor && now.Sub(v.last) >= viewPause
	if due {
		v.looks, v.last = 0, now
	}
	v.mu.Unlock()
	if addr, ok := m.table.addr(name); due && ok {
		m.timers.after(0, func() { _ = m.pushPull(context.Background(), addr) })
	}
}
