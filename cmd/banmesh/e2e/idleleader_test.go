package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/leader"
)

// TestALeaderThatCommitsNothingIsPassedOver: a rogue member claims the highest
// rank and a high term each second, says that it is idle, and commits nothing.
func TestALeaderThatCommitsNothingIsPassedOver(t *testing.T) {
	t.Parallel()
	cond := startConductor(t)
	s := keyed(t, "")
	s.commit = cond.commitTo(steady)
	all := trio(t, s)
	leaderOf(t, all)
	r := enter(t, "idler", all[0], nil)
	awaitMembers(t, all, 4)

	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for seq := uint64(1); ; seq++ {
			b, err := leader.Heartbeat{Seq: seq, Term: 1000, Name: "idler", Priority: 99}.Encode()
			if err != nil {
				t.Error(err)
				return
			}
			for _, a := range all {
				_ = r.mesh.Send(a.name, append([]byte{'L'}, b...))
			}
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	defer func() { close(stop); <-done }()
	for _, a := range all {
		eventually(t, 20*time.Second, a.name+" to follow the rogue", func() bool {
			lead := a.status().Leader
			return lead != nil && *lead == "idler"
		})
	}
	began := time.Now()
	all[1].must("ban", "203.0.113.7", "--for", "1h")
	for _, a := range all {
		eventually(t, 25*time.Second, a.name+" to say who leads and does nothing", func() bool {
			return slices.ContainsFunc(a.status().Warnings, func(w string) bool {
				return strings.Contains(w, "has not begun to commit") && strings.Contains(w, "idler")
			})
		})
	}
	told := time.Since(began)
	eventually(t, 2*time.Minute, "the ban at the conductor", func() bool {
		return slices.Contains(cond.running(t), "203.0.113.7/32")
	})
	committed := time.Since(began)
	// The one that took over knows why, and goes on saying so.
	if !slices.ContainsFunc(all, func(a *agent) bool {
		return slices.ContainsFunc(a.status().Warnings, func(w string) bool {
			return strings.Contains(w, "nothing has moved") && strings.Contains(w, "idler")
		})
	}) {
		t.Error("no warning names the leader that commits nothing")
	}
	t.Logf("told after %v, committed after %v", told.Round(time.Second), committed.Round(time.Second))
}
