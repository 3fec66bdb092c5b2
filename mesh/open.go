package mesh

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"banmesh/mesh/alert"
	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/control/server"
	"banmesh/mesh/crowdsec"
	"banmesh/mesh/enforce"
	"banmesh/mesh/enforce/jail"
	"banmesh/mesh/fail2ban"
	"banmesh/mesh/gossip"
	"banmesh/mesh/history"
	"banmesh/mesh/invite"
	"banmesh/mesh/metrics"
	"banmesh/mesh/neverban"
	"banmesh/mesh/peer"
	"banmesh/mesh/web"
	"banmesh/mesh/web/page"
	"banmesh/store"
)

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
		cfg: cfg, build: build{o.Version, o.Commit, o.Now()}, doors: o.Doors.real(), log: o.Logger.With("router", cfg.Name), clock: newClock(o.Now),
	}
	// Needed by the first reload, which may come right after the start.
	a.trouble.reloaded.level = o.Level
	// Leave may be called before Run has set it.
	a.life.stop = func() {}
	defer func() {
		if err != nil {
			// close undoes whatever has been opened so far; it copes with an agent of which only the first rooms exist.
			err = CannotUse(err, &cfg)
			a.close()
		}
	}()
	if err := a.doors.Prepare(&a.cfg, a.log); err != nil {
		return nil, err
	}
	// The socket comes first: it names an agent of the same configuration that already runs, before anything is touched.
	if a.listener, err = a.doors.Listen(cfg.Socket, cfg.SocketGroup); err != nil {
		return nil, err
	}
	if err := a.openStore(); err != nil {
		return nil, err
	}
	a.past = openMemory(history.Config{Dir: cfg.DataDir, Set: a.store, Now: a.clock.now}, cfg.History, cfg.Geo, a.log)
	a.compareWithFormerRuns(ctx)
	if err := a.openFail2ban(ctx); err != nil {
		return nil, err
	}
	if err := a.openNFTables(); err != nil {
		return nil, err
	}
	if a.lead.conductor, err = newConductor(&a.cfg.Commit, a.doors.Conductor, a.log); err != nil {
		return nil, fmt.Errorf("conductor: %w", err)
	}
	// Before the mesh, which hands over guests from its first stream on.
	a.inviter = newInviter(&a.cfg, a.store, func() *gossip.Mesh { return a.mesh }, a.clock, a.log)
	a.openPeers()
	if err := a.openMesh(ctx); err != nil {
		return nil, err
	}
	a.openNeverBan()
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
	// From here on callbacks that came too early are let through. Nothing is lost by having dropped them: every room reads
	// the whole state when it starts.
	a.life.ready.Store(true)
	if a.past.History != nil {
		a.past.Start()
	}
	return a, nil
}

// compareWithFormerRuns looks for what an earlier run under another configuration left behind: bans under another name, a
// table in the kernel. Neither stops the agent; both become warnings.
func (a *Agent) compareWithFormerRuns(ctx context.Context) {
	var err error
	if a.trouble.former, err = rememberName(ctx, a.store, a.cfg.Name); err != nil {
		a.log.Warn("the store does not remember this router's name", "error", err)
	}
	if a.trouble.table, err = enforce.RemoveFormer(ctx, a.store, a.cfg.Enforce.Driver == "nftables", a.cfg.Enforce.NetNS, a.doors.removeTable); err != nil {
		a.log.Warn("the store does not remember whether this router has an nftables table", "error", err)
	}
}

// openNeverBan makes what tells the others which addresses this router must never ban. The first of them are protected before
// Open returns, and so without waiting for a resolver.
func (a *Agent) openNeverBan() {
	a.neverBan = neverban.New(neverban.Config{
		Name: a.cfg.Name, Conductors: a.cfg.Commit.Conductors, Configured: a.cfg.NeverBan,
		Addresses: a.doors.Addresses, Lookup: a.doors.Lookup, Advertised: a.mesh.Addr, Set: a.store, Now: a.clock.now, Logger: a.log,
	})
	ended, end := context.WithCancel(context.Background())
	end()
	a.neverBan.Protect(ended)
}

// openStore comes first: everything else needs the set. Its lock also keeps a second agent from the same data
// directory.
func (a *Agent) openStore() (err error) {
	a.store, err = store.Open(store.Config{
		Path: a.cfg.StorePath(), Origin: a.cfg.Name, Now: a.clock.now,
		MaxDuration: time.Duration(a.cfg.Bans.MaxDuration), Limits: a.cfg.Limits.Store(), Members: a.cfg.Limits.Counted(),
		// What others may have blocked here without an operator's word; see docs/architecture.md.
		Guard: a.cfg.Enforce.Guard(),
		// The rest of an expired ban is kept for the history only; without one it would be memory for nothing.
		OnChange: a.changed, KeepRest: a.cfg.History.MaxEntries > 0,
		Random: a.doors.Random, Commit: a.doors.Commit, Logger: a.log,
	})
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("data directory %s: %w: stop it, or give this agent another data_dir", a.cfg.DataDir, err)
	}
	return err
}

// openFail2ban makes this router's end of its fail2ban, and the spools of its calls.
// The order within matters: the mesh jail before the hooks, which must not take its bans for this router's own.
func (a *Agent) openFail2ban(ctx context.Context) error {
	f := &a.cfg.Fail2ban
	a.fail2ban.client = a.doors.newClient(fail2ban.ClientConfig{
		Command: f.Client, Socket: f.Socket, Helper: f.HelperSocket(), Shift: a.clock.shift,
	})
	filled, err := a.openMeshJail()
	if err != nil {
		return err
	}
	fills := ""
	if filled != nil {
		fills = filled.Jail()
	}
	if a.trouble.jails, err = jail.OpenFormer(ctx, a.store, fills, a.emptyJail, a.log); err != nil {
		a.log.Warn("the store does not remember which jail is fed", "error", err)
	}
	a.fail2ban.hooks = fail2ban.NewHooks(fail2ban.HooksConfig{
		Set: a.store, Client: a.fail2ban.client, Shares: a.cfg.Share.Has, MeshJail: filled, Now: a.clock.local, Logger: a.log,
	})
	a.fail2ban.notifier = fail2ban.NewNotifier(fail2ban.NotifierConfig{
		Set: a.store, Client: a.fail2ban.client, Hooks: a.fail2ban.hooks, Holds: func(jail string, p netip.Prefix) bool { return a.own().until(jail, p) > 0 },
		// Bounds and silence protect a fail2ban from what other routers do: see SECURITY.md.
		Silent: !f.Unban, Bounds: bounds(f), Now: a.clock.local, Logger: a.log,
	})
	a.fail2ban.least, a.fail2ban.clock = time.Duration(a.cfg.Bans.MinDuration), a.clock
	a.fail2ban.set, a.fail2ban.log = a.store, a.log
	early := &earlyUnbans{store: a.store, settled: func() bool { return a.mesh.Settled() }}
	early.load()
	a.waiting = newWaiting(waitingConfig{Apply: a.applySpooled, Lift: a.lift, Hook: a.fail2ban.hook, Logger: a.log},
		a.doors.Spools(a.cfg.SpoolDir(), a.cfg.Socket), early)
	// Those who may use the socket may also leave calls in the spool.
	gid, err := server.Group(a.cfg.SocketGroup)
	if err != nil {
		return err
	}
	return a.waiting.spools.Prepare(gid)
}

// openMesh starts to listen. From here on other members' records arrive, while nothing that acts on them runs
// yet.
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
	return cannotListen(err, "gossip.bind")
}

// openLead comes after openMesh, whose members are the electorate.
func (a *Agent) openLead() error {
	return a.lead.open(leadConfig{
		Config: &a.cfg, MayLead: a.mayLead(), Started: a.build.started, Set: a.store, Mesh: a.mesh, Peers: a.peers, Clock: a.clock,
		Random: a.doors.Random, Ignored: a.ignored, Publish: a.watchers.events.Publish, Committed: a.watchers.committed, Logger: a.log,
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
// It needs a conductor as well: a member without one would win elections and commit nothing.
func (a *Agent) mayLead() bool { return a.cfg.Leader.Eligible && a.lead.conductor != nil }

// openMeshJail makes the enforcement in the jail that enforce.jail names, where
// enforce.driver is fail2ban. The hooks need it: what happens in that jail is
// not this router's own.
func (a *Agent) openMeshJail() (fail2ban.MeshJail, error) {
	if a.cfg.Enforce.Driver != "fail2ban" {
		return nil, nil
	}
	driver, err := a.jailEnforcer(a.cfg.Enforce.Jail)
	if err != nil {
		return nil, fmt.Errorf("enforce.driver fail2ban: %w", err)
	}
	a.enforcement = newEnforcement(driver, a.cfg.Enforce.Driver, a.log)
	a.enforcement.removed = func(ctx context.Context) error { return a.trouble.jails.Forget(ctx, driver.Jail()) }
	return driver, nil
}

// jailEnforcer makes what keeps a jail of the local fail2ban filled with other members' bans. It uses the
// router's own clock, because fail2ban does.
func (a *Agent) jailEnforcer(name string) (*jail.Enforcer, error) {
	return jail.New(jail.Config{
		Set: a.store, Client: a.fail2ban.client, Jail: name, Limit: a.cfg.Enforce.Limit,
		Settled: func() bool { return a.mesh.Settled() }, Now: a.clock.local, Logger: a.log,
	})
}

// emptyJail takes what was fed out of a jail of the local fail2ban.
func (a *Agent) emptyJail(ctx context.Context, jail string) error {
	driver, err := a.jailEnforcer(jail)
	if err != nil {
		return err
	}
	return driver.Remove(ctx)
}

// openNFTables makes what drops in the kernel, where enforce.driver is nftables.
func (a *Agent) openNFTables() error {
	if a.cfg.Enforce.Driver != "nftables" {
		return nil
	}
	driver, err := a.doors.Kernel(a.cfg.Enforce.NetNS, a.cfg.Enforce.Ingress)
	if err != nil {
		return fmt.Errorf("enforce.driver nftables: %w", err)
	}
	a.enforcement = newEnforcement(enforce.New(enforce.Config{
		Set: a.store, Driver: driver, Settled: func() bool { return a.mesh.Settled() }, Now: a.clock.now, Random: a.doors.Random, Logger: a.log,
	}), a.cfg.Enforce.Driver, a.log)
	a.enforcement.removed = func(ctx context.Context) error { return enforce.ForgetTable(ctx, a.store) }
	return nil
}

// openPeers makes this router's end of what members tell each other.
// Functions instead of the rooms themselves: the mesh and the lead are made later, and are only called once they are there.
func (a *Agent) openPeers() {
	a.peers = peer.New(peer.Config{
		Name: a.cfg.Name, Limits: a.cfg.Limits.Sum(), MaxDuration: time.Duration(a.cfg.Bans.MaxDuration),
		Members:       func() []gossip.Member { return a.mesh.Members() },
		Send:          func(to string, payload []byte) error { return a.mesh.Send(to, payload) },
		Trouble:       func() string { return a.fail2ban.notifier.Trouble() },
		Leads:         func(name string) bool { return a.lead.elector.Status().Leader == name },
		Heartbeat:     func(from string, body []byte) { a.lead.elector.Receive(from, body) },
		Reported:      a.lead.reported,
		MaxDurationOf: a.store.HeardMaxDuration,
		Commit:        a.lead.commitFor,
		Random:        a.doors.Random, Logger: a.log,
	})
}

// openHTTP takes the address of the HTTP listener, where there is one.
func (a *Agent) openHTTP(ctx context.Context) (err error) {
	// The page, the metrics and the feeds share the listener, its token and its TLS.
	h := &a.cfg.HTTP
	if h.Listen == "" {
		return nil
	}
	a.watchers.metrics, err = metrics.New(metrics.Config{
		Source: sampled{a}, Name: a.cfg.Name, Version: a.build.version, Commit: a.build.commit, Now: a.clock.now,
		Settled: a.mesh.Settled, Logger: a.log,
	})
	if err != nil {
		return err
	}
	a.watchers.page, err = page.New(page.Config{Agent: a, Logger: a.log, Now: a.clock.now, Most: a.cfg.Limits.LivePerOrigin})
	if err != nil {
		return err
	}
	a.watchers.web, err = web.New(web.Config{
		Set: a.store, Health: a.store.Health, Ready: a.settledOrWhy, Metrics: a.watchers.metrics, Page: a.watchers.page,
		TokenFile: h.TokenFile, TLS: TLSFiles(h), Now: a.clock.raw, TakenJail: a.cfg.CrowdSec.Jail, Logger: a.log,
	})
	if err != nil {
		return err
	}
	a.watchers.listener, err = a.doors.ListenHTTP(ctx, h.Listen)
	return cannotListen(err, "http.listen")
}

// openAlerts makes what has the operator's command told of trouble that lasts, where
// one is configured.
func (a *Agent) openAlerts() {
	c := &a.cfg.Alert
	if c.Command == "" {
		return
	}
	a.trouble.alerts = alert.New(alert.Config{
		Router: a.cfg.Name, After: time.Duration(c.After), Memory: a.store, Logger: a.log,
		Command: func(ctx context.Context, event []byte) error { return a.doors.Alert(ctx, c.Command, event, a.log) },
	})
}
