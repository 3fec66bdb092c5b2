package mesh

import (
	"context"
	"sync"

	"banmesh/mesh/control"
)

// eventQueue is how many events a reader may lag behind before it loses some.
const eventQueue = 8192

// hub hands the agent's events to any number of readers. A publisher never
// waits: what a slow reader has no room for is lost to that reader, and it is
// told how many.
type hub struct {
	mu      sync.Mutex
	readers map[*reader]struct{}
}

type reader struct {
	mu    sync.Mutex
	queue []control.Event
	lost  int
	wake  chan struct{} // of one: something is in the queue
}

func (h *hub) publish(events ...control.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for r := range h.readers {
		r.put(events)
	}
}

func (r *reader) put(events []control.Event) {
	r.mu.Lock()
	room := max(0, min(len(events), eventQueue-len(r.queue)))
	r.queue = append(r.queue, events[:room]...)
	r.lost += len(events) - room
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *reader) take() (events []control.Event, lost int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	events, lost = r.queue, r.lost
	r.queue, r.lost = nil, 0
	return events, lost
}

// watched says whether anybody reads: without readers nobody need build events.
func (h *hub) watched() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.readers) > 0
}

// read calls yield with each event from now on, until ctx ends (nil) or yield
// fails.
func (h *hub) read(ctx context.Context, yield func(control.Event) error) error {
	r := &reader{wake: make(chan struct{}, 1)}
	h.mu.Lock()
	if h.readers == nil {
		h.readers = make(map[*reader]struct{})
	}
	h.readers[r] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.readers, r)
		h.mu.Unlock()
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		}
		events, lost := r.take()
		for _, e := range events {
			if err := yield(e); err != nil {
				return err
			}
		}
		if lost > 0 {
			e := control.Event{Event: "error", Lost: lost, Error: "this reader is too slow: events were lost"}
			if len(events) > 0 {
				e.Time = events[len(events)-1].Time
			}
			if err := yield(e); err != nil {
				return err
			}
		}
	}
}
