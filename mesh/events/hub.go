// Package events passes the agent's events on to any number of readers. What the hub holds is bounded, and a reader that is slow
// loses events and is told how many; it never delays the agent or another reader.
//
// The agent publishes to one Hub, and each reader (banmesh monitor, the page) calls Read in a goroutine of its own. The hub
// starts none. Its one lock is a leaf, held for a few steps and never while a reader is called. Without readers it keeps
// nothing, and Watched tells the agent that events need not be made. A reader that has missed some can only read the state
// again, since the hub no longer has them.
package events

import (
	"context"
	"errors"
	"sort"
	"sync"
	"time"

	"banmesh/mesh/control"
)

const (
	// heldEvents is how many events a reader may lag behind before it loses some:
	// more than the store tells as one change.
	heldEvents = 16384

	// slowFor is how long a reader may go on losing events without once having
	// read all there are.
	slowFor = 30 * time.Second
)

// errSlowReader ends the stream of a reader that does not keep up.
var errSlowReader = errors.New("the reader of events does not keep up and was dropped")

// Hub is the agent's one stream of events, for any number of readers: monitors,
// the page. The latest events are held once for all of them, and a reader is no
// more than a place in them, so that what publishing costs does not depend on
// how many read, nor how slowly. A reader whose place is no longer held is told
// how many events it has lost.
type Hub struct {
	mu      sync.Mutex
	batches []batch // as published, oldest first: heldEvents in all, none without readers
	held    int     // events in them
	next    uint64  // the number of the next event
	readers int
	wake    chan struct{} // closed by the next publish; nil while nobody waits
}

// batch is what was published at once. Its events are shared and never changed.
type batch struct {
	first  uint64 // the number of the first one
	events []control.Event
}

// Publish never waits for a reader. The events are the hub's from then on.
func (h *Hub) Publish(events ...control.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	// Nobody has a place, so nobody can miss them.
	if h.readers == 0 || len(events) == 0 {
		return
	}
	h.batches = append(h.batches, batch{h.next, events})
	h.next += uint64(len(events))
	h.held += len(events)
	h.trim()
	if h.wake != nil {
		close(h.wake)
		h.wake = nil
	}
}

// trim lets go of the oldest events beyond heldEvents.
func (h *Hub) trim() {
	for h.held > heldEvents {
		oldest := &h.batches[0]
		n := min(len(oldest.events), h.held-heldEvents)
		oldest.first += uint64(n)
		oldest.events = oldest.events[n:]
		h.held -= n
		if len(oldest.events) == 0 {
			*oldest = batch{} // the array behind the slice would keep it
			h.batches = h.batches[1:]
		}
	}
}

// Watched reports whether anybody reads: without readers nobody need build events.
func (h *Hub) Watched() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.readers > 0
}

// take returns the held events from a place on, as far as they were published
// together, and how many before them are no longer held; where there are none
// yet, what is closed when there are.
func (h *Hub) take(place uint64) (events []control.Event, lost uint64, wake <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if place == h.next {
		if h.wake == nil {
			h.wake = make(chan struct{})
		}
		return nil, 0, h.wake
	}
	if oldest := h.batches[0].first; place < oldest {
		place, lost = oldest, oldest-place
	}
	b := h.batches[sort.Search(len(h.batches), func(i int) bool { return h.batches[i].first > place })-1]
	return b.events[place-b.first:], lost, nil
}

// enter places a reader behind everything that was published before it came.
func (h *Hub) enter() (place uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.readers++
	return h.next
}

// leave forgets the events with the last reader: without one nothing is kept.
func (h *Hub) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.readers--
	if h.readers == 0 {
		h.batches, h.held = nil, 0
	}
}

// Read calls yield with each event from now on, until ctx ends (nil), yield
// fails or the reader is dropped (errSlowReader).
func (h *Hub) Read(ctx context.Context, yield func(control.Event) error) error {
	place := h.enter()
	defer h.leave()
	var behind time.Time // since when events are being lost; zero where none are
	for ctx.Err() == nil {
		events, lost, wake := h.take(place)
		if wake != nil {
			behind = time.Time{}
			select {
			case <-ctx.Done():
			case <-wake:
			}
			continue
		}
		if lost > 0 {
			now := time.Now()
			if behind.IsZero() {
				behind = now
			}
			tell := control.Event{
				Time: events[0].Time, Event: "error", Lost: int(lost), Error: "this reader is too slow: events were lost",
			}
			if now.Sub(behind) >= slowFor {
				tell.Error = "this reader is too slow: events were lost, and it is sent no more"
				return errors.Join(yield(tell), errSlowReader)
			}
			if err := yield(tell); err != nil {
				return err
			}
		}
		for _, e := range events {
			if err := yield(e); err != nil {
				return err
			}
		}
		place += lost + uint64(len(events))
	}
	return nil
}
