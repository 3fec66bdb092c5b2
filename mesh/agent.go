// Package mesh is the agent that runs on every router. It takes bans from the
// control socket, keeps them in the replicated set, gossips them to its peers
// and, while it leads, has the merged set committed to the conductor.
//
// The rooms are wired in the order of a ban's way: control, store, gossip,
// leader, commit.
package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"banmesh/mesh/alert"
	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/control/server"
	"banmesh/mesh/crowdsec"
	"banmesh/mesh/fail2ban"
	"banmesh/mesh/gossip"
	"banmesh/mesh/history"
	"banmesh/mesh/invite"
	"banmesh/mesh/peer"
	"banmesh/mesh/warning"
	"banmesh/store"
)

// tick is the pace of expiry, of draining the spools and of the clock.
const tick = time.Second

// Agent is one member of the mesh.
type Agent struct {
	cfg     config.Config
	build   build
	started time.Time
	doors   Doors
	log     *slog.Logger
	level   *slog.LevelVar
	clock   *clock

	store    *store.Store
	mesh     *gossip.Mesh
	lead     lead
	quorum   quorum
	fail2ban localFail2ban
	waiting  *waiting
	events   hub
	listener net.Listener
	peers    *peer.Messenger
	neverBan *neverBan

	lifts       warning.Lifts
	former      string // the name that the store was written under, where it is another; else ""
	inviter     *inviter
	alerts      *alert.Watcher // nil where no command is configured
	enforcement *enforcement   // nil where none is configured
	watchers    watchers
	crowdsec    *crowdsec.Source // nil where none is configured
	past        *memory
	reloaded    reloaded
	ready       atomic.Bool // the rooms are made: changes, messages and guests may reach them

	departure departure
}

// build is what the program was built from.
type build struct{ version, commit string }

// Options are what an agent is given beside its configuration.
type Options struct {
	Version string
	Commit  string // that the program was built from; may be ""
	Logger  *slog.Logger
	Level   *slog.LevelVar   // of Logger, so that a reload can change it; may be nil
	Now     func() time.Time // default time.Now
	Doors
}

// Open takes the socket and the store and starts to gossip; Run does the rest.
// An error says what is missing or who is in the way, and leaves nothing open.
func Open(ctx context.Context, cfg config.Config, o Options) (_ *Agent, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &Agent{
		cfg: cfg, build: build{o.Version, o.Commit}, doors: o.Doors.real(), log: o.Logger.With("router", cfg.Name), level: o.Level,
		started: o.Now(), clock: newClock(o.Now),
	}
	a.departure.stop = func() {}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	if err := a.doors.Prepare(&a.cfg, a.log); err != nil {
		return nil, err
	}
	if a.listener, err = a.doors.Listen(cfg.Socket, cfg.SocketGroup); err != nil {
		return nil, err
	}
	if err := a.openStore(); err != nil {
		return nil, err
	}
	a.past = openMemory(history.Config{Dir: cfg.DataDir, Set: a.store, Now: a.clock.now}, cfg.History, cfg.Geo, a.log)
	if a.former, err = rememberName(ctx, a.store, cfg.Name); err != nil {
		a.log.Warn("the store does not remember this router's name", "error", err)
	}
	if err := a.openFail2ban(); err != nil {
		return nil, err
	}
	if err := a.openNFTables(); err != nil {
		return nil, err
	}
	if a.lead.conductor, err = newConductor(&a.cfg.Commit, a.doors.Conductor, a.log); err != nil {
		return nil, fmt.Errorf("conductor: %w", err)
	}
	a.inviter = newInviter(&a.cfg, a.store, func() *gossip.Mesh { return a.mesh }, a.clock, a.log)
	a.openPeers()
	if err := a.openMesh(ctx); err != nil {
		return nil, err
	}
	a.neverBan = newNeverBan(neverBanConfig{
		Name: cfg.Name, Conductors: cfg.Commit.Conductors, Configured: cfg.NeverBan,
		Addresses: a.doors.Addresses, Lookup: a.doors.Lookup, Advertised: a.mesh.Addr, Set: a.store, Now: a.clock.now, Logger: a.log,
	})
	a.neverBan.protect(noLookups())
	if err := a.openLead(); err != nil {
		return nil, err
	}
	if err := a.openCrowdSec(); err != nil {
		return nil, err
	}
	if err := a.openHTTP(ctx); err != nil {
		return nil, err
	}
	a.openAlerts()
	a.ready.Store(true)
	if a.past.History != nil {
		a.past.Start()
	}
	return a, nil
}

// Set is the replicated set of this agent, for those who run one in their own
// process and compare what it holds; it is the agent's to close.
func (a *Agent) Set() *store.Store { return a.store }

// Addr is where the peers reach this agent, IP:port.
func (a *Agent) Addr() string { return a.mesh.Addr() }

func (a *Agent) openStore() (err error) {
	a.store, err = store.Open(store.Config{
		Path: a.cfg.StorePath(), Origin: a.cfg.Name, Now: a.clock.now,
		MaxDuration: time.Duration(a.cfg.Bans.MaxDuration), Limits: a.cfg.Limits.Store(), Members: a.cfg.Limits.Counted(),
		Guard:    a.cfg.Enforce.Guard(),
		OnChange: a.changed, KeepRest: a.cfg.History.MaxEntries > 0,
		Random: a.doors.Random, Commit: a.doors.Commit, Logger: a.log,
	})
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("data directory %s: %w: stop it, or give this agent another data_dir", a.cfg.DataDir, err)
	}
	return err
}

// openFail2ban makes this router's end of its fail2ban, and the spools of its calls.
func (a *Agent) openFail2ban() error {
	f := &a.cfg.Fail2ban
	a.fail2ban.client = a.doors.newClient(fail2ban.ClientConfig{
		Command: f.Client, Socket: f.Socket, Helper: f.HelperSocket(), Shift: a.clock.shift,
	})
	fed, err := a.openFeed()
	if err != nil {
		return err
	}
	a.fail2ban.hooks = fail2ban.NewHooks(fail2ban.HooksConfig{
		Set: a.store, Client: a.fail2ban.client, Shares: a.cfg.Share.Has, Feed: fed, Now: a.clock.local, Logger: a.log,
	})
	a.fail2ban.notifier = fail2ban.NewNotifier(fail2ban.NotifierConfig{
		Set: a.store, Client: a.fail2ban.client, Hooks: a.fail2ban.hooks, Holds: func(jail string, p netip.Prefix) bool { return a.own().until(jail, p) > 0 },
		Silent: !f.Unban, Bounds: bounds(f), Now: a.clock.local, Logger: a.log,
	})
	a.fail2ban.least, a.fail2ban.shift, a.fail2ban.log = time.Duration(a.cfg.Bans.MinDuration), a.clock.shift, a.log
	repeat := &repeats{store: a.store, settled: func() bool { return a.mesh.Settled() }}
	repeat.load()
	a.waiting = newWaiting(waitingConfig{Apply: a.applySpooled, Lift: a.lift, Hook: a.fail2ban.hook, Logger: a.log},
		a.doors.Spools(a.cfg.SpoolDir(), a.cfg.Socket), repeat)
	gid, err := server.Group(a.cfg.SocketGroup)
	if err != nil {
		return err
	}
	return a.waiting.spools.Prepare(gid)
}

func (a *Agent) openMesh(ctx context.Context) (err error) {
	g := &a.cfg.Gossip
	bind, err := netip.ParseAddrPort(g.Bind)
	if err != nil {
		return fmt.Errorf("gossip.bind: %q is not IP:port", g.Bind)
	}
	a.mesh, err = gossip.New(ctx, gossip.Config{
		Name: a.cfg.Name, Version: a.build.version, Bind: bind, Advertise: g.Advertise, Profile: g.Profile,
		Label: g.Label, Insecure: g.Insecure, KeyringFile: g.Keyring, LocalKeyring: !g.RemoteKeyring, Ignore: a.ignored, Join: a.cfg.Join,
		Eligible: a.mayLead(), Priority: a.cfg.Leader.Priority,
		Transport: a.doors.Transport, Random: a.doors.Random, Lookup: a.doors.Lookup,
		Set: a.store, Now: a.clock.raw, OnMember: a.memberChanged, OnMessage: a.heard, Logger: a.log,
		Guest: a.guest, GuestByte: invite.First,
	})
	return err
}

func (a *Agent) openLead() error {
	a.quorum = quorum{&a.cfg.Quorum, a.store, a.mesh}
	return a.lead.open(leadConfig{
		Config: &a.cfg, MayLead: a.mayLead(), Started: a.started, Set: a.store, Mesh: a.mesh, Peers: a.peers, Clock: a.clock,
		Random: a.doors.Random, Ignored: a.ignored, Quorum: a.quorum.enough(), Publish: a.events.publish, Committed: a.watchers.committed, Logger: a.log,
	})
}

// openCrowdSec makes the follower of a LAPI, where one is configured.
func (a *Agent) openCrowdSec() (err error) {
	c := &a.cfg.CrowdSec
	if c.URL == "" {
		return nil
	}
	a.crowdsec, err = crowdsec.New(crowdsec.Config{
		URL: c.URL, KeyFile: c.KeyFile, CAFile: c.CAFile, Origins: c.Origins, Interval: time.Duration(c.Interval),
		Apply: a.decisions().apply, Logger: a.log,
	})
	return err
}

func (a *Agent) own() own { return own{a.store, a.cfg.Name} }

// decisions makes what CrowdSec's decisions become bans by.
func (a *Agent) decisions() *decisions {
	return &decisions{
		own: a.own(), jail: a.cfg.CrowdSec.Jail, limits: a.cfg.Limits.Store(), longest: time.Duration(a.cfg.Bans.MaxDuration),
		set: a.store, clock: a.clock, log: a.log, ban: a.ban,
		unban: func(ctx context.Context, c control.UnbanCall) error {
			_, err := a.unban(ctx, c, c)
			return err
		},
	}
}

// mayLead says whether this agent is configured to commit.
func (a *Agent) mayLead() bool { return a.cfg.Leader.Eligible && a.lead.conductor != nil }

// Run serves until ctx ends, Leave is called or something fails that the agent
// cannot do without. It returns nil after a clean stop, within 5 s.
func (a *Agent) Run(ctx context.Context) error {
	ctx, a.departure.stop = context.WithCancel(ctx)
	defer a.departure.stop()
	// Own work outlives ctx for as long as the clean stop takes.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()

	server, err := server.New(server.Config{Agent: a, Logger: a.log})
	if err != nil {
		a.close()
		return err
	}
	var rooms sync.WaitGroup
	failed := make(chan error, 8)
	start := func(name string, ctx context.Context, run func(context.Context) error) {
		rooms.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				failed <- fmt.Errorf("%s: %w", name, err)
				a.departure.stop()
			}
		})
	}
	start("control", ctx, func(ctx context.Context) error { return server.Serve(ctx, a.listener) })
	start("fail2ban hooks", ctx, a.fail2ban.hooks.Run)
	start("fail2ban", ctx, a.fail2ban.notifier.Run)
	start("never-ban", ctx, a.neverBan.run)
	start("clock", work, a.pulse)
	start("spool", work, a.waiting.chores)
	if a.alerts != nil {
		start("alerts", ctx, a.alerts.Run)
	}
	if a.enforcement != nil {
		start("enforce", ctx, a.enforcement.run)
	}
	if a.watchers.listener != nil {
		start("page", ctx, a.watchers.page.Run)
		start("http", ctx, a.serveHTTP)
	}
	if a.crowdsec != nil {
		start("crowdsec", ctx, a.crowdsec.Run)
	}
	start("leader", work, a.lead.elector.Run)
	if a.lead.committer != nil {
		start("commit", ctx, a.lead.committer.Run)
	}
	a.log.Info("agent started", "addr", a.mesh.Addr(), "socket", a.cfg.Socket, "http", a.HTTPAddr(), "version", a.build.version)

	<-ctx.Done()
	a.log.Info("agent stopping")
	late, done := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer done()
	a.lead.elector.Resign(late)
	if err := a.departure.announce(late, a.mesh.Leave); err != nil {
		a.log.Warn("not every member heard of the leave", "error", err)
	}
	cancel()
	rooms.Wait()
	_ = a.departure.takeOff(late, a.enforcement) // it is logged
	a.close()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// close releases what Open took, in the reverse order.
func (a *Agent) close() {
	if a.mesh != nil {
		a.mesh.Shutdown()
	}
	if a.lead.conductor != nil {
		a.lead.conductor.Close()
	}
	if a.waiting != nil {
		a.waiting.end()
	}
	if a.store != nil {
		if err := a.store.Close(); err != nil {
			a.log.Error("close the store", "error", err)
		}
	}
	if a.past != nil && a.past.History != nil {
		if err := a.past.Close(); err != nil {
			a.log.Warn("close the history", "error", err)
		}
	}
	for _, listener := range []net.Listener{a.watchers.listener, a.listener} {
		if listener != nil {
			listener.Close()
		}
	}
}

// pulse does what is done each second: expiry, the clock, the watches. It never
// waits for the disk.
func (a *Agent) pulse(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		a.clock.set(a.mesh.Offset())
		a.store.Tick(a.clock.agree.Load())
		a.forgetMembers()
		a.lead.report()
		a.peers.Tick(time.Now())
		a.lead.watchStall(time.Now())
		a.watchTrouble()
	}
}

// changed is told of every change of the set, in order. It must not block.
func (a *Agent) changed(c store.Change) {
	if !a.ready.Load() {
		return // each room looks for itself when it starts
	}
	if c.OwnHead {
		a.mesh.Announce()
	}
	if u, any := urgency(c); any && a.lead.committer != nil {
		a.lead.committer.Notify(u)
	}
	a.fail2ban.notifier.Poke()
	if a.enforcement != nil {
		a.enforcement.Changed(c)
	}
	a.watchers.changed(c)
	a.lifts.Note(a.cfg.Name, c, time.Now())
	if a.past.History != nil {
		a.past.Note(a.clock.now(), c)
	}
	if a.events.watched() {
		a.events.publish(storeEvents(c, a.clock.now())...)
	}
}
