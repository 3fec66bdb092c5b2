package world

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"banmesh/internal/sim/simnet"
	"banmesh/mesh"
	"banmesh/mesh/conductor"
	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/enforce"
	"banmesh/mesh/spool"
)

// Member is one router: what outlives its agent's process, and the process while it runs.
type Member struct {
	w     *World
	name  string
	addr  netip.AddrPort
	dir   string
	spool *heap

	watchdog *watchdog
	kernel   *kernel
	offset   atomic.Int64 // of its clock from the true time
	drift    atomic.Int64 // parts per million
	cutOff   atomic.Bool  // from the conductor
	frozenAt atomic.Int64 // since when its agent is seen to be frozen, in ns; 0: it is not

	disk struct {
		sync.Mutex
		fail error
		slow time.Duration
	}

	runs     atomic.Int64
	agent    atomic.Pointer[mesh.Agent]
	host     *simnet.Host
	stop     context.CancelFunc
	stopped  chan struct{}
	dead     atomic.Bool // the power is off: nothing reaches the disk any more
	settleAt time.Time   // when it was started
	guessAt  time.Time   // when it was last started while a clock was wrong
}

// guessed reports whether a member may have banned by a wrong time of the mesh: one that starts while a clock is off by up to 3 h,
// for half an hour at most, and meets nobody but that router goes by the middle between the two.
func (w *World) guessed(name string) bool {
	for _, m := range w.members {
		if m.name == name {
			return !m.guessAt.IsZero() && time.Since(m.guessAt) < 2*time.Hour
		}
	}
	return false
}

func (m *Member) now() time.Time {
	t := time.Now()
	return t.Add(time.Duration(m.offset.Load()) + t.Sub(m.w.began)/1e6*time.Duration(m.drift.Load()))
}

// source is a seeded generator that several goroutines share.
type source struct {
	mu  sync.Mutex
	pcg *rand.PCG
}

func (s *source) Uint64() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pcg.Uint64()
}

func (w *World) config(m *Member) config.Config {
	c := config.Default()
	c.Name, c.DataDir, c.Socket = m.name, m.dir, "/run/"+m.name+".sock"
	c.Gossip.Bind, c.Gossip.Insecure = m.addr.String(), true
	for _, other := range w.members {
		if other != m && len(c.Join) < 2 {
			c.Join = append(c.Join, other.addr.String())
		}
	}
	c.Commit.Driver, c.Commit.Conductors = "netconf", []string{w.conductorAddr.String()}
	c.Commit.Key, c.Commit.KnownHosts = "/simulated/key", "/simulated/known_hosts"
	c.Enforce.Driver = "nftables"
	c.Bans.MaxDuration = config.Duration(w.cfg.MaxDuration)
	return c
}

// start starts the agent; it fails if the agent refuses to start.
func (m *Member) start() error {
	w := m.w
	host, err := w.net.Attach(m.addr)
	if err != nil {
		return err
	}
	run := int(m.runs.Add(1))
	m.dead.Store(false)
	log := slog.New(slog.DiscardHandler)
	if w.cfg.Log != nil {
		log = slog.New(w.cfg.Log)
	}
	doors := mesh.Doors{
		Random:    &source{pcg: rand.NewPCG(w.cfg.Seed, uint64(run)<<32|uint64(m.addr.Addr().As4()[3]))},
		Transport: host,
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			return nil, errors.New("no such host")
		},
		Addresses: func() []netip.Addr { return []netip.Addr{m.addr.Addr()} },
		Prepare:   func(*config.Config, *slog.Logger) error { return nil },
		Commit:    func(write func() error) error { return m.write(run, write) },
		Spools:    func(string, string) mesh.Spools { return m.spool },
		Listen:    func(string, string) (net.Listener, error) { return newSilence(), nil },
		Conductor: func(_ *config.Commit, c conductor.Config) (*conductor.Conductor, error) {
			return conductor.New(c.WithDefaults(), &driver{w.console, m, run}), nil
		},
		Fail2ban: m.watchdog.client,
		Kernel:   func(string, []string) (enforce.Driver, error) { return m.kernel, nil },
	}
	agent, err := mesh.Open(context.Background(), w.config(m), mesh.Options{Version: "simulated", Logger: log, Now: m.now, Doors: doors})
	if err != nil {
		_ = host.Shutdown()
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	m.host, m.stop, m.stopped, m.settleAt = host, stop, make(chan struct{}), time.Now()
	if w.stepped {
		m.guessAt = m.settleAt
	}
	m.frozenAt.Store(0)
	m.agent.Store(agent)
	go func(stopped chan struct{}) {
		defer close(stopped)
		if err := agent.Run(ctx); err != nil {
			w.fault("the agent of %s stopped: %v", m.name, err)
		}
	}(m.stopped)
	return nil
}

// write is a transaction on its way to the disk.
func (m *Member) write(run int, commit func() error) error {
	m.disk.Lock()
	fail, slow := m.disk.fail, m.disk.slow
	m.disk.Unlock()
	if slow > 0 {
		time.Sleep(slow)
	}
	if m.dead.Load() {
		return errors.New("power is gone")
	}
	if fail != nil {
		m.w.reached("disk: a transaction was refused")
		return fail
	}
	return commit()
}

// frozen reports whether its agent has been frozen for longer than what was under way takes.
func (m *Member) frozen() bool {
	since, a := m.frozenAt.Load(), m.agent.Load()
	if since == 0 || a == nil || time.Since(time.Unix(0, since)) < 3*time.Minute {
		return false
	}
	still, _ := a.Set().Frozen()
	return still
}

func (m *Member) running() bool { return m.agent.Load() != nil }

// halt stops the agent cleanly.
func (m *Member) halt() {
	if m.agent.Swap(nil) == nil {
		return
	}
	m.stop()
	<-m.stopped
	m.w.console.lost(m, false)
}

// kill ends the process abruptly. Unwritten data is lost, and if the host's power goes too, its sessions stay open.
func (m *Member) kill(power bool) {
	if m.agent.Swap(nil) == nil {
		return
	}
	m.host.Crash()
	m.w.console.lost(m, power)
	m.dead.Store(true) // from here on nothing reaches the file
	cut := m.cutOff.Swap(true)
	m.stop()
	<-m.stopped
	m.cutOff.Store(cut)
}

func (m *Member) path() string { return filepath.Join(m.dir, "store.db") }

// copyOut returns the store's file as it is.
func (m *Member) copyOut() []byte {
	b, err := os.ReadFile(m.path())
	if err != nil {
		m.w.fault("copy the store of %s: %v", m.name, err)
	}
	return b
}

// put replaces the store's file; nil removes it. The agent must not be running.
func (m *Member) put(b []byte) {
	if err := os.Remove(m.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.w.fault("%v", err)
	}
	if b != nil {
		if err := os.WriteFile(m.path(), b, 0o600); err != nil {
			m.w.fault("%v", err)
		}
	}
}

// hook is the hook of the banmesh action: a call that reaches no agent goes to the spool.
func (m *Member) hook(c control.HookCall) {
	agent := m.agent.Load()
	if agent == nil {
		m.w.reached("a call was spooled")
		m.spool.put(spool.Entry{Time: m.now(), Hook: &c})
		m.w.spooled(m, c)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	reply, err := agent.Fail2ban(ctx, c)
	if err != nil {
		m.w.reached("a hook's call failed")
		if code := (*control.Error)(nil); errors.As(err, &code) && code.Code == control.CodeInvalid {
			m.w.fault("the hook %s of %s was refused as invalid: %v", c.Event, m.name, err)
		}
		m.spool.put(spool.Entry{Time: m.now(), Hook: &c})
		m.w.spooled(m, c)
		return
	}
	m.w.afterHook(m, agent, c, reply)
}

func (m *Member) String() string { return fmt.Sprintf("%s (run %d)", m.name, m.runs.Load()) }
