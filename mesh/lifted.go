package mesh

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"banmesh/store"
)

// liftBook counts which other routers lifted bans of this one in the last hour.
type liftBook struct {
	mu sync.Mutex
	of map[string]map[int64]int // by name, by minute
}

const (
	liftsFor = time.Hour
	// manyLifts is from how many on status says so: an operator lifts a few.
	manyLifts  = 10
	maxLifters = 64
)

// note takes in a change of the set.
func (b *liftBook) note(self string, c store.Change, now time.Time) {
	minute := now.Unix() / 60
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range c.Events {
		if e.Kind != store.EventLift || e.Origin != self || e.By == self || e.By == "" {
			continue
		}
		minutes := b.of[e.By]
		if minutes == nil {
			if b.forget(now); len(b.of) >= maxLifters {
				continue
			}
			if b.of == nil {
				b.of = make(map[string]map[int64]int)
			}
			minutes = make(map[int64]int)
			b.of[e.By] = minutes
		}
		minutes[minute]++
	}
}

// forget drops what is over an hour ago. Called with the lock held.
func (b *liftBook) forget(now time.Time) {
	first := now.Add(-liftsFor).Unix() / 60
	for name, minutes := range b.of {
		for m := range minutes {
			if m < first || m > now.Unix()/60 {
				delete(minutes, m)
			}
		}
		if len(minutes) == 0 {
			delete(b.of, name)
		}
	}
}

func (b *liftBook) warnings(now time.Time) (w []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(now)
	for name, minutes := range b.of {
		n := 0
		for _, x := range minutes {
			n += x
		}
		if n > manyLifts {
			w = append(w, fmt.Sprintf("%d of this router's bans were lifted by %s in the last hour: if that is not in order, `banmesh revoke --origin %s --block`", n, name, name))
		}
	}
	slices.Sort(w)
	return w
}
