// Package demo shows the whole way of a ban in one process: three agents, a
// simulated conductor, attackers from a small log.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/mesh/control"
)

// Options are what the demo is run with.
type Options struct {
	Out     io.Writer
	Colour  bool // Out is a terminal that shows colours
	Stay    bool // keep running after the summary until ctx ends
	REST    bool // commit over REST, as to releases from 5.3 on, instead of NETCONF
	Version string
}

const (
	pace     = 120 * time.Millisecond // between two lines of the log
	patience = 15 * time.Second       // for anything that is waited for
)

// Run plays the demo and returns an error where something did not happen that
// should have.
func Run(ctx context.Context, o Options) error {
	dir, err := os.MkdirTemp("", "banmesh-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer os.RemoveAll(dir)
	n, err := open(ctx, dir, o)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer n.close()
	p := &play{network: n, screen: newScreen(o.Out, o.Colour), jail: jail{}, begun: time.Now()}
	for _, act := range []func(context.Context) error{p.cast, p.attack, p.committed, p.lift, p.failover} {
		if err := act(ctx); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	p.summary()
	if !o.Stay {
		return nil
	}
	return p.stay(ctx)
}

// play is one performance.
type play struct {
	*network
	*screen
	jail     jail
	begun    time.Time
	leader   string
	arrivals []time.Duration // of bans and lifts at other routers
	stored   []time.Duration // until the router itself had it on disk
	takeover time.Duration
	commits  int
}

// cast waits until the routers know each other and one leads, and names them.
func (p *play) cast(ctx context.Context) error {
	p.title("Three routers and a simulated conductor, on this machine")
	lead := func() bool {
		for _, r := range p.routers {
			s, err := r.agent.Status(ctx)
			if err != nil || s.Members.Alive != len(p.routers) || s.Leader == nil {
				return false
			}
			p.leader = *s.Leader
		}
		return true
	}
	if err := until(ctx, "the three agents to meet and elect a leader", lead); err != nil {
		return err
	}
	for _, r := range p.routers {
		role := ""
		if r.name == p.leader {
			role = "leads: it alone commits"
		}
		p.line("%-10s %-22s %s", r.name, r.agent.Addr(), role)
	}
	p.line("%-10s %-22s %s; a commit takes it %v", "conductor", p.conductor, p.speaks, commitDelay)
	if p.routers[0].cfg.HTTP.Listen != "" {
		p.line("%-10s %s", "page", p.page())
	}
	return nil
}

// attack replays the log; what a router bans reaches the others.
func (p *play) attack(ctx context.Context) error {
	p.title("Attackers try passwords. A row appears when every router has the ban")
	p.head("banned by", "address", p.routers)
	for _, a := range attempts(authLog) {
		if err := sleep(ctx, pace); err != nil {
			return err
		}
		if !a.addr.IsValid() || !p.jail.failed(a) {
			continue
		}
		if err := p.ban(ctx, p.router(a.router), a.addr); err != nil {
			return err
		}
	}
	return nil
}

func (p *play) ban(ctx context.Context, at *router, addr netip.Addr) error {
	prefix := netip.PrefixFrom(addr, addr.BitLen())
	said := time.Now()
	_, err := at.agent.Ban(ctx, control.BanCall{
		Prefixes: control.Prefixes{prefix}, Jail: "sshd", Until: control.UntilAt(said.Add(10 * time.Minute)), Failures: maxRetry,
	})
	if err != nil {
		return fmt.Errorf("%s: ban %v: %w", at.name, addr, err)
	}
	return p.travel(ctx, "ban", at, prefix, said, time.Since(said))
}

// travel waits for an event at every router and shows the times as a row: at
// the first router how long its disk took, at the others how long the way took.
func (p *play) travel(ctx context.Context, event string, at *router, prefix netip.Prefix, said time.Time, disk time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	took := map[string]time.Duration{at.name: disk}
	p.stored = append(p.stored, disk)
	for len(took) < len(p.running()) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s of %v at %s did not reach every router within %v", event, prefix, at.name, patience)
		case s := <-p.seen:
			if s.event.Event == event && s.event.Prefix == prefix.String() && s.router != at.name {
				took[s.router] = s.at.Sub(said)
				p.arrivals = append(p.arrivals, took[s.router])
			}
		}
	}
	p.row(said.Sub(p.begun), at.name, prefix, p.routers, took)
	return nil
}

func (p *play) running() []*router {
	return slices.DeleteFunc(slices.Clone(p.routers), func(r *router) bool { return r.agent == nil })
}

// committed waits until the tenant is what the routers hold, and shows it as
// the device does.
func (p *play) committed(ctx context.Context) error {
	p.title("The leader commits the merged set, once for all of them")
	if err := p.awaitCommit(ctx); err != nil {
		return err
	}
	p.line("conductor# show config running authority tenant %s", p.routers[0].cfg.Commit.Tenant)
	text, _ := p.sim.ShowTenant(p.routers[0].cfg.Commit.Tenant)
	p.device(text)
	return nil
}

// awaitCommit waits until nothing is pending at the leader and says how many
// commits that took.
func (p *play) awaitCommit(ctx context.Context) error {
	lead := p.router(p.leader)
	var s control.Status
	done := func() bool {
		var err error
		s, err = lead.agent.Status(ctx)
		return err == nil && s.Commit.State == "idle" && s.Commit.PendingAdd == 0 && s.Commit.PendingRemove == 0 &&
			s.Commit.Committed == s.Bans.Effective
	}
	if err := until(ctx, "the leader's commit", done); err != nil {
		return fmt.Errorf("%w: %s says %s %s", err, p.leader, s.Commit.State, s.Commit.Detail)
	}
	now := p.sim.History().Commits()
	p.line("%s made %s; the tenant holds %s", p.leader, excerpt.Count(now-p.commits, "commit", "commits"), excerpt.Count(s.Commit.Committed, "address", "addresses"))
	p.commits = now
	return nil
}

// lift unbans one address, at a router that did not ban it.
func (p *play) lift(ctx context.Context) error {
	const wrong = "198.51.100.23"
	p.title("router2 banned one by mistake. router3 says `banmesh unban " + wrong + "`")
	p.head("lifted by", "address", p.routers)
	at := p.router("router3")
	prefix := netip.PrefixFrom(netip.MustParseAddr(wrong), 32)
	said := time.Now()
	if _, err := at.agent.Unban(ctx, control.UnbanCall{Prefixes: control.Prefixes{prefix}}); err != nil {
		return fmt.Errorf("%s: unban: %w", at.name, err)
	}
	if err := p.travel(ctx, "lift", at, prefix, said, time.Since(said)); err != nil {
		return err
	}
	return p.awaitCommit(ctx)
}

// failover stops the leader; another one commits what comes next.
func (p *play) failover(ctx context.Context) error {
	p.title(p.leader + ", the leader, is stopped")
	old := p.router(p.leader)
	said := time.Now()
	if err := old.stop(); err != nil {
		return fmt.Errorf("%s: stop: %w", old.name, err)
	}
	old.agent = nil
	taken := func() bool {
		for _, r := range p.running() {
			s, err := r.agent.Status(ctx)
			if err != nil || s.Leader == nil || *s.Leader == old.name {
				return false
			}
			p.leader = *s.Leader
		}
		return true
	}
	if err := until(ctx, "another router to lead", taken); err != nil {
		return err
	}
	p.takeover = time.Since(said)
	p.line("%s leads %s after the stop began", p.leader, millis(p.takeover))
	p.head("banned by", "address", p.routers)
	if err := p.ban(ctx, p.running()[len(p.running())-1], netip.MustParseAddr("192.0.2.66")); err != nil {
		return err
	}
	return p.awaitCommit(ctx)
}

func (p *play) summary() {
	p.title("Summary")
	p.line("on disk where it was made    median %s, slowest %s", millis(median(p.stored)), millis(slices.Max(p.stored)))
	p.line("at the other routers         median %s, slowest %s", millis(median(p.arrivals)), millis(slices.Max(p.arrivals)))
	p.line("commits at the conductor     %d for %d bans and lifts", p.commits, len(p.stored))
	p.line("new leader after a stop      %s", millis(p.takeover))
	p.line("the whole demo               %v", time.Since(p.begun).Round(100*time.Millisecond))
}

// stay brings the stopped router back and goes on with a few bans until ctx ends.
func (p *play) stay(ctx context.Context) error {
	for i, r := range p.routers {
		if r.agent != nil {
			continue
		}
		r.cfg.Join = []string{p.running()[0].agent.Addr()}
		if err := p.start(ctx, p.routers[i]); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	p.title("The three go on, with more attackers, until Ctrl-C. Look in a browser:")
	p.line("%s", p.page())
	p.line("")
	p.line("Or try them from another terminal:")
	if _, err := exec.LookPath("banmesh"); err != nil {
		if self, err := os.Executable(); err == nil {
			p.line("alias banmesh=%s", self) // of go run: it is there as long as the demo runs
		}
	}
	for _, r := range p.routers {
		p.line("banmesh status --socket %s", r.cfg.Socket)
	}
	p.line("")
	p.line("export BANMESH_SOCKET=%s", p.routers[0].cfg.Socket)
	p.line("banmesh ban 203.0.113.99 --for 5m; banmesh list; banmesh diff")
	p.line("banmesh unban 203.0.113.99")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- newTrickle().run(ctx, p.routers) }()
	for {
		select {
		case err := <-ended:
			if err != nil {
				return fmt.Errorf("demo: %w", err)
			}
			return nil
		case <-p.seen: // nobody is shown them any more
		}
	}
}

// page is where a browser finds the first router's page.
func (p *play) page() string { return "http://" + p.routers[0].cfg.HTTP.Listen + "/" }

// until polls cond, which looks at memory only.
func until(ctx context.Context, what string, cond func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !cond() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("waited %v for %s", patience, what)
			}
			return ctx.Err()
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func median(d []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[len(sorted)/2]
}
