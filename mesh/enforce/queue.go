package enforce

import (
	"net/netip"
	"sync"
	"time"

	"banmesh/store"
)

// most is how many prefixes are examined one by one; if more have changed, the whole set is.
const most = 4096

// queue holds what has changed since the last look.
// Changed runs under the store's lock and Watch on a goroutine of its own; both only leave a note here and wake the loop.
type queue struct {
	mu     sync.Mutex
	some   map[netip.Prefix]struct{}
	all    bool
	look   bool                      // exemptions have changed, and it is not known where
	exempt map[netip.Prefix]struct{} // where allows have changed since the exemptions were last compared; most+1 is too many
	news   News                      // what others did to the router
	wake   chan struct{}             // holds one

	now   func() time.Time
	since time.Time // when the oldest entry came; zero while it is empty
}

func newQueue(now func() time.Time) queue {
	return queue{some: make(map[netip.Prefix]struct{}), exempt: make(map[netip.Prefix]struct{}), wake: make(chan struct{}, 1), now: now}
}

// changed adds a change that may alter what is enforced. The end of a ban does not: the router has known it since the ban.
func (q *queue) changed(c store.Change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	news := c.More > 0
	q.all = q.all || c.More > 0
	for i := range c.Events {
		switch e := &c.Events[i]; e.Kind {
		case store.EventBan, store.EventExtend, store.EventLift, store.EventAllow, store.EventDisallow:
			news = true
			if allow := e.Kind == store.EventAllow || e.Kind == store.EventDisallow; allow && len(q.exempt) <= most {
				q.exempt[e.Prefix] = struct{}{}
			}
			if q.all {
				break
			}
			if q.some[e.Prefix] = struct{}{}; len(q.some) > most {
				q.all = true
				clear(q.some)
			}
		// All bans of a member come or go, and the event names none of them.
		case store.EventBlock, store.EventUnblock:
			news, q.all = true, true
		case store.EventNeverBan:
			news, q.look = true, true
		case store.EventFreeze, store.EventThaw:
			news = true // checked each time
		}
	}
	if news {
		q.note()
		q.rouse()
	}
}

// note records since when something waits. The caller holds mu.
func (q *queue) note() {
	if q.since.IsZero() && (q.all || len(q.some) > 0) {
		q.since = q.now()
	}
}

// waiting says how many prefixes wait, and since when.
func (q *queue) waiting() (n int, since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.all {
		return most, q.since // or more
	}
	return len(q.some), q.since
}

// rouse wakes the loop, which then takes everything that waits.
func (q *queue) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// again puts back what must be examined once more.
func (q *queue) again(prefixes []netip.Prefix) {
	if len(prefixes) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range prefixes {
		q.some[p] = struct{}{}
	}
	q.note()
	q.rouse()
}

// tell adds what others did to the router.
func (q *queue) tell(n News) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.news.Layout, q.news.Lost = q.news.Layout || n.Layout, q.news.Lost || n.Lost
	if q.news.Elements = append(q.news.Elements, n.Elements...); len(q.news.Elements) > most {
		q.news.Elements, q.news.Lost = nil, true
	}
	q.rouse()
}

// takeNews takes what tell has added.
func (q *queue) takeNews() News {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.news
	q.news = News{}
	return n
}

// take empties the queue; look says that the exemptions must be compared, since is when its oldest entry came.
func (q *queue) take() (some map[netip.Prefix]struct{}, all, look bool, since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	some, all, look, since = q.some, q.all, q.look, q.since
	q.some, q.all, q.look, q.since = make(map[netip.Prefix]struct{}), false, false, time.Time{}
	return some, all, look, since
}

// takeExempt returns where allows have changed since the last call.
func (q *queue) takeExempt() map[netip.Prefix]struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.exempt
	q.exempt = make(map[netip.Prefix]struct{})
	return out
}
