package e2e

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"banmesh/mesh/control"
)

// rough is a mesh on a network that is not well, with what people do meanwhile.
type rough struct {
	t      *testing.T
	agents []*agent
	want   map[string]bool            // banned, and not unbanned
	given  map[string]time.Time       // when each ban was acknowledged
	seen   map[*agent]map[string]bool // what each has shown
	took   []time.Duration            // from the acknowledgement until another showed it
	next   int
}

// onRough waits until the agents have met and share a ban.
func onRough(t *testing.T, agents []*agent) *rough {
	t.Helper()
	r := &rough{t: t, agents: agents, want: make(map[string]bool), given: make(map[string]time.Time), seen: make(map[*agent]map[string]bool)}
	for _, a := range agents {
		r.seen[a] = make(map[string]bool)
	}
	awaitMembers(t, agents, len(agents))
	for _, a := range agents {
		r.ban(a, 2)
	}
	r.complete("before the trouble", 10*time.Second)
	return r
}

func (r *rough) ban(a *agent, n int) {
	r.t.Helper()
	args := []string{"ban", "--for", "1h"}
	defer r.look(a)
	for range n {
		p := netip.AddrFrom4([4]byte{198, 18, byte(r.next >> 8), byte(r.next)})
		r.next++
		args = append(args, p.String())
		r.want[p.String()+"/32"] = true
		r.given[p.String()+"/32"] = time.Now()
	}
	a.must(args...)
}

// unban lifts, at an agent, one of the bans that it shows.
func (r *rough) unban(a *agent) {
	r.t.Helper()
	shown := slices.Sorted(maps.Keys(r.seen[a]))
	shown = slices.DeleteFunc(shown, func(p string) bool { return !r.want[p] })
	if len(shown) < 4 {
		return
	}
	a.must("unban", shown[len(shown)/2])
	delete(r.want, shown[len(shown)/2])
}

// look reads each agent's list: what it has shown once it shows until somebody
// lifts it.
func (r *rough) look(agents ...*agent) {
	r.t.Helper()
	for _, a := range agents {
		shown := make(map[string]bool)
		for _, l := range r.list(a) {
			if !l.Effective || r.given[l.Prefix].IsZero() {
				r.t.Fatalf("%s shows %+v, want what was banned, effective", a.name, l)
			}
			shown[l.Prefix] = true
		}
		for p := range r.seen[a] {
			if r.want[p] && !shown[p] {
				r.t.Fatalf("%s shows %s no more, and nobody has unbanned it", a.name, p)
			}
		}
		for p := range shown {
			if !r.seen[a][p] {
				r.took = append(r.took, time.Since(r.given[p]))
				r.seen[a][p] = true
			}
		}
	}
}

func (r *rough) list(a *agent) (out []control.Ban) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	err := control.NewClient(a.socket).List(ctx, control.ListQuery{}, func(b control.Ban) error { out = append(out, b); return nil })
	if err != nil {
		r.t.Fatalf("list at %s: %v", a.name, err)
	}
	return out
}

// work has people ban and unban everywhere, for as long as it lasts, a step each
// half second, and looks all the time.
func (r *rough) work(length time.Duration, agents ...*agent) {
	r.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for step, began := 0, time.Now(); time.Since(began) < length; step++ {
		r.ban(agents[step%len(agents)], 3)
		if step%2 == 1 {
			r.unban(agents[(step/2)%len(agents)])
		}
		for until := time.Now().Add(500 * time.Millisecond); time.Now().Before(until); <-tick.C {
			r.look(agents...)
		}
	}
}

// complete waits until every agent shows exactly what is wanted, with one root.
func (r *rough) complete(when string, within time.Duration) {
	r.t.Helper()
	began := time.Now()
	for _, a := range r.agents {
		eventually(r.t, time.Until(began.Add(within)), "everything at "+a.name+" "+when, func() bool {
			r.look(a)
			list := r.list(a)
			return len(list) == len(r.want) && !slices.ContainsFunc(list, func(b control.Ban) bool { return !r.want[b.Prefix] })
		})
	}
	oneRoot(r.t, time.Until(began.Add(within)), r.agents)
	r.t.Logf("%s: %d bans on all %d after %v; until another showed one: %s", when, len(r.want), len(r.agents),
		time.Since(began).Round(10*time.Millisecond), percentiles(r.took))
	r.took = nil
}
