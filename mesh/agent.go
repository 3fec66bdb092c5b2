// Package mesh is the agent that runs on every router. It takes bans from the
// control socket, keeps them in the replicated set, gossips them to its peers
// and, while it leads, has the merged set committed to the conductor.
//
// The rooms are wired in the order of a ban's way: control, store, gossip,
// leader, commit.
package mesh

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"banmesh/mesh/config"
	"banmesh/mesh/control/server"
	"banmesh/mesh/crowdsec"
	"banmesh/mesh/gossip"
	"banmesh/mesh/neverban"
	"banmesh/mesh/peer"
	"banmesh/store"
)

// tick is the pace of expiry, of draining the spools and of the clock.
const tick = time.Second

// Agent is one member of the mesh.
// Each field is a room or a small owner of state; the agent's own methods only carry calls from one to another.
type Agent struct {
	cfg   config.Config
	build build
	doors Doors
	log   *slog.Logger
	clock *clock

	store *store.Store
	// nil until openMesh; what may run earlier asks life.ready
	mesh     *gossip.Mesh
	lead     lead
	fail2ban localFail2ban
	waiting  *waiting
	listener net.Listener
	peers    *peer.Messenger
	neverBan *neverban.List

	// What an operator is told of, beside what the rooms report themselves.
	trouble     trouble
	inviter     *inviter
	enforcement *enforcement // nil where none is configured
	watchers    watchers
	crowdsec    *crowdsec.Source // nil where none is configured
	past        *memory
	life        life
}

// build is what the program was built from, and since when it runs.
type build struct {
	version string
	commit  string // may be ""
	started time.Time
}

// Options are what an agent is given beside its configuration.
// Everything else an agent needs of the world comes through Doors.
type Options struct {
	Version string
	Commit  string // that the program was built from; may be ""
	Logger  *slog.Logger
	Level   *slog.LevelVar   // of Logger, so that a reload can change it; may be nil
	Now     func() time.Time // default time.Now
	Doors
}

// Set is the replicated set of this agent, for those who run one in their own
// process and compare what it holds; it is the agent's to close.
func (a *Agent) Set() *store.Store { return a.store }

// Addr is where the peers reach this agent, IP:port.
func (a *Agent) Addr() string { return a.mesh.Addr() }

// Run serves until ctx ends, Leave is called or something fails that the agent
// cannot do without. It returns nil after a clean stop, within 5 s.
func (a *Agent) Run(ctx context.Context) error {
	ctx, a.life.stop = context.WithCancel(ctx)
	defer a.life.stop()
	// Own work outlives ctx for as long as the clean stop takes.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()

	server, err := server.New(server.Config{Agent: a, Logger: a.log})
	if err != nil {
		a.close()
		return err
	}
	rooms := &rooms{stop: a.life.stop, failed: make(chan error, 1)}
	rooms.start(ctx, "control", func(ctx context.Context) error { return server.Serve(ctx, a.listener) })
	a.startRooms(ctx, work, rooms)
	a.log.Info("agent started", "addr", a.mesh.Addr(), "socket", a.cfg.Socket, "http", a.HTTPAddr(), "version", a.build.version)

	<-ctx.Done()
	a.log.Info("agent stopping")
	late, done := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer done()
	// The others take over at once instead of waiting for silence. That needs gossip, so it comes before the leave.
	a.lead.elector.Resign(late)
	if err := a.life.announce(late, a.mesh.Leave); err != nil {
		a.log.Warn("not every member heard of the leave", "error", err)
	}
	cancel()
	rooms.Wait()
	_ = a.life.takeOff(late, a.enforcement) // it is logged
	a.close()
	select {
	case err := <-rooms.failed:
		return err
	default:
		return nil
	}
}

// rooms are the goroutines of the agent's rooms. The first that fails stops the agent: half an agent would look alive to the
// others and protect nobody.
type rooms struct {
	sync.WaitGroup
	stop   context.CancelFunc
	failed chan error // the first failure
}

// start runs one part of the agent. If it fails while the agent is not stopping, all others are stopped and
// Run returns that error: an agent of which a part is missing would look healthy and do half its work.
func (r *rooms) start(ctx context.Context, name string, run func(context.Context) error) {
	r.Go(func() {
		if err := run(ctx); err != nil && ctx.Err() == nil {
			select {
			case r.failed <- fmt.Errorf("%s: %w", name, err):
			default:
			}
			r.stop()
		}
	})
}

// startRooms starts what is configured. What the clean stop still needs (the clock, the spool, the election, which resigns)
// runs until work ends; all else ends with ctx.
func (a *Agent) startRooms(ctx, work context.Context, rooms *rooms) {
	rooms.start(ctx, "fail2ban hooks", a.fail2ban.hooks.Run)
	rooms.start(ctx, "fail2ban", a.fail2ban.notifier.Run)
	rooms.start(ctx, "never-ban", a.neverBan.Run)
	rooms.start(work, "clock", a.pulse)
	rooms.start(work, "spool", a.waiting.chores)
	rooms.start(ctx, "probe of the store", func(ctx context.Context) error { return a.lead.probe.run(ctx, a.store) })
	if a.trouble.alerts != nil {
		rooms.start(ctx, "alerts", a.trouble.alerts.Run)
	}
	if a.enforcement != nil {
		rooms.start(ctx, "enforce", a.enforcement.run)
	}
	rooms.start(ctx, "former jails", a.trouble.jails.Run)
	if a.watchers.listener != nil {
		rooms.start(ctx, "page", a.watchers.page.Run)
		rooms.start(ctx, "http", a.serveHTTP)
	}
	if a.crowdsec != nil {
		rooms.start(ctx, "crowdsec", a.crowdsec.Run)
	}
	rooms.start(work, "leader", a.lead.elector.Run)
	if a.lead.committer != nil {
		rooms.start(ctx, "commit", a.lead.committer.Run)
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
		// First the clock, since expiry below depends on it; then what has expired; then the reports of how things are.
		a.clock.compare(a.mesh.Offset)
		a.store.Tick(a.clock.agrees())
		a.forgetMembers()
		a.lead.report()
		// time.Now and not the agent's clock: these are intervals, and a corrected clock jumps.
		a.peers.Tick(time.Now())
		a.lead.watchStall(time.Now())
		a.watchTrouble()
	}
}

// changed is told of every change of the set, in order. It must not block.
func (a *Agent) changed(c store.Change) {
	if !a.life.ready.Load() {
		// A change may come while the store is being read, before the rooms exist.
		return // each room looks for itself when it starts
	}
	// Gossip comes first: it is the way that must take milliseconds.
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
	a.watchers.changed(c, a.clock.now)
	a.trouble.lifts.Note(a.cfg.Name, c, time.Now())
	if a.past.History != nil {
		a.past.Note(a.clock.now(), c)
	}
}
