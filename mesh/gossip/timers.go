package gossip

import (
	"sync"
	"time"
)

// timers are single delayed calls that end with the mesh.
type timers struct {
	mu     sync.Mutex
	closed bool
	set    map[*time.Timer]struct{}
	wg     *sync.WaitGroup
}

// Most wait because of a packet that somebody sent.
const maxTimers = 8192

// after runs f once, unless the mesh is shut down first. It reports whether there was room for the timer.
func (t *timers) after(d time.Duration, f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.set) >= maxTimers {
		return false
	}
	if t.set == nil {
		t.set = make(map[*time.Timer]struct{})
	}
	var timer *time.Timer
	timer = time.AfterFunc(d, func() {
		t.mu.Lock()
		delete(t.set, timer)
		if t.closed {
			t.mu.Unlock()
			return
		}
		// Under the lock and before stop can have returned, so that Shutdown waits for every call that has begun.
		t.wg.Add(1)
		t.mu.Unlock()
		defer t.wg.Done()
		f()
	})
	t.set[timer] = struct{}{}
	return true
}

// stop also keeps later timers from being set, so nothing starts after the mesh has ended. A function that
// runs already is not waited for here.
func (t *timers) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for timer := range t.set {
		timer.Stop()
	}
}
