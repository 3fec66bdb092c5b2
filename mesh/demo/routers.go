package demo

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"banmesh/internal/sim/conductorsim"
	"banmesh/mesh"
	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
)

// router is one agent of the demo, in this process.
type router struct {
	name   string
	cfg    config.Config
	agent  *mesh.Agent
	cancel context.CancelFunc
	ended  chan struct{} // closed when the agent's run has ended
	err    error         // of the run; read it after ended
}

// seen is an event at a router, and when it was seen there.
type seen struct {
	router string
	event  control.Event
	at     time.Time
}

// network is the demo's machine room: a conductor and three routers.
type network struct {
	dir       string
	sim       *conductorsim.Sim
	conductor string // its address
	speaks    string
	commit    config.Commit
	routers   []*router
	seen      chan seen
	version   string
}

// commitDelay is how long the simulated conductor takes for a commit.
const commitDelay = 250 * time.Millisecond

func open(ctx context.Context, dir string, o Options) (_ *network, err error) {
	n := &network{dir: dir, version: o.Version, seen: make(chan seen, 1024)}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if err := n.openConductor(o.REST); err != nil {
		return nil, fmt.Errorf("simulated conductor: %w", err)
	}
	keyring := filepath.Join(dir, "keyring.json")
	if err := os.WriteFile(keyring, fmt.Appendf(nil, "[%q]\n", gossip.NewKey()), 0o600); err != nil {
		return nil, err
	}
	for _, name := range []string{"router1", "router2", "router3"} {
		r := &router{name: name, cfg: n.config(name, keyring)}
		if len(n.routers) > 0 {
			r.cfg.Join = []string{n.routers[0].agent.Addr()}
		} else if o.Stay {
			r.cfg.HTTP.Listen = "127.0.0.1:0"
		}
		if err := n.start(ctx, r); err != nil {
			return nil, err
		}
		r.cfg.HTTP.Listen = r.agent.HTTPAddr() // a browser finds it there again after a restart
		n.routers = append(n.routers, r)
	}
	return n, nil
}

func (n *network) openConductor(rest bool) error {
	cfg := conductorsim.DefaultConfig()
	cfg.Dir = filepath.Join(n.dir, "conductor")
	cfg.CommitDelay = commitDelay
	if rest {
		cfg.Style = conductorsim.Style56
	}
	sim, err := conductorsim.New(cfg)
	if err != nil {
		return err
	}
	n.sim = sim
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	n.conductor, n.speaks = ln.Addr().String(), "NETCONF over SSH"
	n.commit = config.Default().Commit
	if !rest {
		n.commit.Driver, n.commit.Conductors = "netconf", []string{n.conductor}
		n.commit.Key, n.commit.KnownHosts = filepath.Join(cfg.Dir, "client_key"), filepath.Join(cfg.Dir, "known_hosts")
		go sim.Serve(ln) // until Close
		return nil
	}
	n.speaks = "REST, release " + string(cfg.Style)
	n.commit.Driver, n.commit.Conductors = "rest", []string{"https://" + n.conductor}
	n.commit.CAFile, n.commit.PasswordFile = filepath.Join(cfg.Dir, "rest_cert.pem"), filepath.Join(n.dir, "password")
	go sim.ServeREST(1, ln)
	return os.WriteFile(n.commit.PasswordFile, []byte(cfg.Password+"\n"), 0o600)
}

// config is that of an operator, but for the times: a demo is watched.
func (n *network) config(name, keyring string) config.Config {
	cfg := config.Default()
	cfg.Name = name
	cfg.DataDir = filepath.Join(n.dir, name)
	cfg.Socket = filepath.Join(n.dir, name+".sock")
	cfg.Gossip.Bind = "127.0.0.1:0"
	cfg.Gossip.Profile = "local"
	cfg.Gossip.Keyring = keyring
	cfg.Fail2ban.Unban = false // there is none here
	cfg.Commit = n.commit
	cfg.Commit.Window = config.Duration(time.Second)
	cfg.Commit.MaxWait = config.Duration(3 * time.Second)
	cfg.Commit.MinInterval = config.Duration(time.Second)
	cfg.Commit.Timeout = config.Duration(10 * time.Second)
	return cfg
}

// start opens and runs a router, and begins to watch its events.
func (n *network) start(ctx context.Context, r *router) error {
	log, err := os.OpenFile(filepath.Join(n.dir, r.name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	agent, err := mesh.Open(ctx, r.cfg, mesh.Options{
		Version: n.version, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		log.Close()
		return fmt.Errorf("%s: %w", r.name, err)
	}
	ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	r.agent, r.ended = agent, make(chan struct{})
	go func() {
		defer log.Close()
		defer close(r.ended)
		r.err = agent.Run(ctx)
	}()
	go agent.Events(ctx, func(e control.Event) error {
		s := seen{router: r.name, event: e, at: time.Now()}
		select {
		case n.seen <- s:
			return nil
		case <-ctx.Done():
			return io.EOF
		}
	})
	return nil
}

// stop stops a router cleanly, as SIGTERM does.
func (r *router) stop() error {
	r.cancel()
	<-r.ended
	return r.err
}

func (n *network) router(name string) *router {
	for _, r := range n.routers {
		if r.name == name {
			return r
		}
	}
	return nil
}

func (n *network) close() {
	for _, r := range n.routers {
		r.cancel()
	}
	for _, r := range n.routers {
		<-r.ended
	}
	if n.sim != nil {
		n.sim.Close()
	}
}
