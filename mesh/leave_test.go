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

// stuck enforces, and cannot take the bans off.
type stuck struct{ ran, ended bool }

func (s *stuck) Run(ctx context.Context) error {
	s.ran = true
	<-ctx.Done()
	s.ended = true
	return nil
}
func (s *stuck) Changed(store.Change) {}
func (s *stuck) Remove(context.Context) error {
	if !s.ended {
		return errors.New("it still runs")
	}
	return errors.New("operation not permitted")
}
func (s *stuck) Status() enforce.Status { return enforce.Status{} }

// Whoever gives `banmesh leave` is told that the bans stay in the kernel.
func TestALeaveThatLeavesTheBansInPlaceFails(t *testing.T) {
	a := &Agent{cfg: DefaultConfig(), taken: newTaken(), log: slog.New(slog.DiscardHandler)}
	s := &stuck{}
	a.enforcer = s
	done := make(chan error)
	go func() { done <- a.taken.run(t.Context(), s.Run) }()
	if err := a.stopEnforcing(t.Context()); err != nil || a.taken.err != nil {
		t.Errorf("a stop that is no leave takes the bans off: %v", err)
	}
	a.left.Store(true)
	for range 2 { // the call, and the end of the agent
		if err := a.stopEnforcing(t.Context()); err == nil || !strings.Contains(err.Error(), "the bans stay on this router") || !strings.Contains(err.Error(), "not permitted") {
			t.Errorf("%v", err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
