package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/internal/sim/conductorsim/history"
	"banmesh/mesh/control"
)

const massBans = 20 // of each agent

// TestAgentsAreKilledAndStartedAtOnce: the power of a whole site fails. All
// are in one process group, which one SIGKILL ends; all start again together.
func TestAgentsAreKilledAndStartedAtOnce(t *testing.T) { killedAndStartedAtOnce(t, 20) }

// TestSoakFiftyAgentsAreKilledAndStartedAtOnce costs six times as much: each talks to all.
func TestSoakFiftyAgentsAreKilledAndStartedAtOnce(t *testing.T) {
	need.Soak(t)
	killedAndStartedAtOnce(t, 50)
}

func killedAndStartedAtOnce(t *testing.T, agents int) {
	cond := startConductor(t)
	s := settings{commit: cond.commitTo(quick), extra: "log: {level: error}\n"}
	g := &group{t: t}
	for i := range agents {
		addr := ownAddr(t)
		s.gossip = fmt.Sprintf("{bind: %q, profile: local}", addr)
		g.agents = append(g.agents, newAgent(t, fmt.Sprintf("router%02d", i+1), s))
		if i < 2 {
			s.peers = append(s.peers, addr)
		}
	}
	began := time.Now()
	g.start()
	g.whole(40 * time.Second)
	t.Logf("%d agents have met after %v", agents, time.Since(began).Round(10*time.Millisecond))

	want := make(map[string]bool)
	for i, a := range g.agents {
		ps := make(control.Prefixes, massBans)
		for k := range ps {
			ps[k] = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i), byte(k + 1)}), 32)
			want[ps[k].String()] = true
		}
		if _, err := control.NewClient(a.socket).Ban(t.Context(), control.BanCall{Prefixes: ps, Until: control.UntilAt(time.Now().Add(time.Hour))}); err != nil {
			t.Fatalf("ban at %s: %v", a.name, err)
		}
	}
	eventually(t, 20*time.Second, "most of them in the tenant", func() bool { return len(cond.running(t)) >= len(want)/2 })
	// One more each, which only its own disk need have when all end.
	for i, a := range g.agents {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 19, byte(i), 1}), 32)
		want[p.String()] = true
		if _, err := control.NewClient(a.socket).Ban(t.Context(), control.BanCall{Prefixes: control.Prefixes{p}, Until: control.UntilAt(time.Now().Add(time.Hour))}); err != nil {
			t.Fatalf("ban at %s: %v", a.name, err)
		}
	}
	g.kill()
	t.Logf("killed; the tenant holds %d of %d", len(cond.running(t)), len(want))

	began = time.Now()
	g.start()
	g.whole(40 * time.Second)
	t.Logf("all have met again after %v", time.Since(began).Round(10*time.Millisecond))
	for _, a := range g.agents {
		eventually(t, 20*time.Second, "all bans at "+a.name, func() bool {
			s, err := asked(t, a)
			return err == nil && s.Bans.Effective == len(want)
		})
	}
	oneRoot(t, 20*time.Second, g.agents)
	t.Logf("one set after %v", time.Since(began).Round(10*time.Millisecond))
	for _, l := range g.agents[agents-1].list() {
		if !want[l.Prefix] || !l.Effective {
			t.Errorf("%+v is none of the bans that were given", l)
		}
	}
	tenantBecomes(t, 40*time.Second, cond, want)
	t.Logf("tenant equal to it after %v", time.Since(began).Round(10*time.Millisecond))
	nothing := history.Checker{
		Tenant: "blacklist-fail2ban", MustLock: true,
		Came: func(c history.Change) error {
			if !want[c.Prefix.String()] {
				return errors.New("nobody had banned it")
			}
			return nil
		},
		Gone: func(history.Change) error { return errors.New("nobody had unbanned it") },
	}
	for _, v := range nothing.Check(cond.history(t)) {
		t.Error(v)
	}
}

// group is agents in one process group.
type group struct {
	t      *testing.T
	agents []*agent
	id     int
}

// start runs all; the first one's process leads the group.
func (g *group) start() {
	g.t.Helper()
	g.id = 0
	for _, a := range g.agents {
		a.attr = &syscall.SysProcAttr{Setpgid: true, Pgid: g.id}
		a.launch()
		if g.id == 0 {
			g.id = a.cmd.Process.Pid
		}
	}
}

// kill ends all at once.
func (g *group) kill() {
	g.t.Helper()
	if err := syscall.Kill(-g.id, syscall.SIGKILL); err != nil {
		g.t.Fatalf("kill the group: %v", err)
	}
	for _, a := range g.agents {
		<-a.ended
	}
}

// whole waits until each sees all.
func (g *group) whole(patience time.Duration) {
	g.t.Helper()
	deadline := time.Now().Add(patience)
	for _, a := range g.agents {
		answers(g.t, time.Until(deadline), a)
	}
	for _, a := range g.agents {
		eventually(g.t, time.Until(deadline), a.name+" to see all", func() bool {
			s, err := asked(g.t, a)
			return err == nil && s.Members.Alive == len(g.agents)
		})
	}
}
