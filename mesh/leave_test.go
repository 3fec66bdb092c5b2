package mesh

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"banmesh/mesh/enforce"
	"banmesh/store"
)

// stuck enforces, and cannot take the bans off the first times.
type stuck struct {
	ran, ended bool
	fails      int
}

func (s *stuck) Run(ctx context.Context) error {
	s.ran = true
	<-ctx.Done()
	s.ended = true
	return nil
}
func (s *stuck) Changed(store.Change) {}
func (s *stuck) Remove(ctx context.Context) error {
	if !s.ended {
		return errors.New("it still runs")
	}
	if s.fails--; s.fails >= 0 {
		return errors.New("operation not permitted")
	}
	return ctx.Err()
}
func (s *stuck) Status() enforce.Status { return enforce.Status{} }

// Whoever gives `banmesh leave` is told that the bans stay in the kernel.
func TestALeaveThatLeavesTheBansInPlaceFails(t *testing.T) {
	var d life
	s := &stuck{fails: 2}
	e := newEnforcement(s, "nftables", slog.New(slog.DiscardHandler))
	done := make(chan error)
	go func() { done <- e.run(t.Context()) }()
	if err := d.takeOff(t.Context(), e); err != nil || e.told {
		t.Errorf("a stop that is no leave takes the bans off: %v", err)
	}
	d.forGood.Store(true)
	for range 2 { // the call, and the end of the agent
		if err := d.takeOff(t.Context(), e); err == nil || !strings.Contains(err.Error(), "the bans stay on this router") || !strings.Contains(err.Error(), "not permitted") {
			t.Errorf("%v", err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The client that asked for the leave may be gone long before the bans are, and what
// failed at first is tried again at the end of the agent.
func TestAnInterruptedLeaveTakesTheBansOff(t *testing.T) {
	a := &Agent{}
	a.life.once.Do(func() {}) // there is no mesh
	stopped := false
	a.life.stop = func() { stopped = true }
	s := &stuck{fails: 1}
	a.enforcement = newEnforcement(s, "nftables", slog.New(slog.DiscardHandler))
	done := make(chan error)
	go func() { done <- a.enforcement.run(t.Context()) }()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Leave(gone); err == nil || !strings.Contains(err.Error(), "not permitted") || !stopped {
		t.Errorf("the leave: %v (stopped: %v)", err, stopped)
	}
	if err := a.life.takeOff(t.Context(), a.enforcement); err != nil || !a.enforcement.off {
		t.Errorf("the end of the agent: %v", err)
	}
	if err := a.Leave(gone); err != nil {
		t.Errorf("once more: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
