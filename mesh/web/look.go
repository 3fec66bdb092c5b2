package web

import (
	"sync"
	"time"
)

const (
	// lookTime is how long a caller waits for a look at a file. Until the look ends, what was read last counts.
	lookTime = time.Second

	// hangsAfter is how long a look may take before the disk is said to hang.
	hangsAfter = 5 * time.Second
)

// look is a look at files in a goroutine of its own: a call to a disk that hangs cannot be ended, and must hold up neither
// `banmesh status` nor the listener's clients.
type look struct {
	mu    sync.Mutex
	ended chan struct{} // closed at the end of the one that runs; nil: none does
	began time.Time
}

// take starts f unless it runs already, and waits for its end for at most lookTime.
func (l *look) take(f func()) {
	l.mu.Lock()
	if l.ended == nil {
		l.ended, l.began = make(chan struct{}), time.Now()
		go func() {
			f()
			l.mu.Lock()
			defer l.mu.Unlock()
			close(l.ended)
			l.ended = nil
		}()
	}
	ended, left := l.ended, lookTime-time.Since(l.began)
	l.mu.Unlock()
	if left <= 0 {
		return
	}
	select {
	case <-ended:
	case <-time.After(left):
	}
}

// hangs returns for how long the look that runs has had no answer; 0 if that is no trouble yet.
func (l *look) hangs() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == nil || time.Since(l.began) < hangsAfter {
		return 0
	}
	return time.Since(l.began).Round(time.Second)
}
