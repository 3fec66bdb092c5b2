package world

import (
	"context"
	"errors"
	"net"
	"sync"

	"banmesh/mesh/spool"
)

// turn is a lock that may be held during a wait. In a bubble, time stands still while a goroutine waits for a sync.Mutex.
type turn chan struct{}

func (t turn) take() { t <- struct{}{} }
func (t turn) give() { <-t }

// heap is a spool in memory, which outlives the agent's process.
type heap struct {
	draining turn

	mu   sync.Mutex
	held []spool.Entry
}

func (h *heap) Prepare(int) error { return nil }
func (h *heap) Quick() int        { return 0 }

func (h *heap) Len() (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.held), nil
}

func (h *heap) put(e spool.Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = append(h.held, e)
}

func (h *heap) Drain(ctx context.Context, apply func(context.Context, spool.Entry) error) (d spool.Drained, err error) {
	h.draining.take()
	defer h.draining.give()
	for {
		h.mu.Lock()
		if len(h.held) == 0 {
			h.mu.Unlock()
			return d, nil
		}
		e := h.held[0]
		h.mu.Unlock()
		err := apply(ctx, e)
		if err != nil && !errors.Is(err, spool.ErrRefused) {
			return d, err
		}
		if err != nil {
			d.Aside = append(d.Aside, err)
		} else {
			d.Applied++
		}
		h.mu.Lock()
		if len(h.held) > 0 {
			h.held = h.held[1:]
		}
		h.mu.Unlock()
	}
}

// silence is a listener without callers: a simulation calls the agent's methods directly.
type silence struct {
	once sync.Once
	done chan struct{}
}

func newSilence() *silence { return &silence{done: make(chan struct{})} }

func (s *silence) Accept() (net.Conn, error) {
	<-s.done
	return nil, net.ErrClosed
}

func (s *silence) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

func (s *silence) Addr() net.Addr { return &net.UnixAddr{Name: "simulated", Net: "unix"} }
