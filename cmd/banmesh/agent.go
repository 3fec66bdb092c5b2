package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"banmesh/mesh"
	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/store"
)

// defaultConfig is the configuration of an agent that is told of no other.
const defaultConfig = "/etc/banmesh/banmesh.yaml"

// agentFlags are the flags of `banmesh agent`, which win over the file.
type agentFlags struct {
	config, name, dataDir, socket, socketGroup, logLevel string
	bind, advertise, profile, keyring, label             string
	join                                                 cli.StringSlice
	insecure, resetStore                                 bool
}

// agentCommand has a flag for what a test or a first try on one machine needs to set. Everything else is in
// the file alone: a flag that the unit does not pass is forgotten at the next restart.
func agentCommand(c *console) *cli.Command {
	var f agentFlags
	return &cli.Command{
		Name: "agent", Category: "Mesh", Usage: "run the agent, in the foreground",
		Description: "SIGTERM and SIGINT stop it cleanly, SIGHUP rereads the configuration. Flags win over the file.\n\n" +
			"Example:\n   banmesh agent --config /etc/banmesh/banmesh.yaml",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Destination: &f.config, Usage: "`FILE` to read; default " + defaultConfig + " where it exists"},
			&cli.StringFlag{Name: "name", Destination: &f.name, Usage: "stable `NAME` of this router in the mesh"},
			&cli.StringFlag{Name: "data-dir", Destination: &f.dataDir, Usage: "`DIR` of the store and the spool"},
			&cli.StringFlag{Name: "socket", Destination: &f.socket, Usage: "control socket, `PATH`"},
			&cli.StringFlag{Name: "socket-group", Destination: &f.socketGroup, Usage: "`GROUP` that may use the socket"},
			&cli.StringFlag{Name: "log-level", Destination: &f.logLevel, Usage: "`LEVEL`: debug, info, warn or error"},
			&cli.StringFlag{Name: "bind", Destination: &f.bind, Usage: "gossip on `IP:PORT`, UDP and TCP; port 0 takes a free one"},
			&cli.StringFlag{Name: "advertise", Destination: &f.advertise, Usage: "address at which peers reach it, `IP[:PORT]`"},
			&cli.StringFlag{Name: "profile", Destination: &f.profile, Usage: "timeouts for `NETWORK`: lan, wan or local"},
			&cli.StringFlag{Name: "keyring", Destination: &f.keyring, Usage: "`FILE` with the keys that encrypt the gossip"},
			&cli.StringFlag{Name: "label", Destination: &f.label, Usage: "`NAME` of the mesh, where several share a network"},
			&cli.StringSliceFlag{Name: "join", Destination: &f.join, Usage: "members to look for, `ADDR,...`"},
			&cli.BoolFlag{Name: "insecure", Destination: &f.insecure, Usage: "gossip without a keyring although not every address is loopback"},
			&cli.BoolFlag{Name: "reset-store", Destination: &f.resetStore, Usage: "keep a damaged store file aside and start anew; the other members send the bans again"},
		},
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			return f.run(cc.Context, c)
		},
	}
}

// run is the whole life of the agent. It returns nil after a signal or a leave; an error means that systemd starts it again.
func (f *agentFlags) run(ctx context.Context, c *console) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// The first signal stops cleanly; a second one finds no handler and ends the process.
	context.AfterFunc(ctx, stop)
	// Before the configuration is read: a SIGHUP that nobody catches ends the process, and one that comes early
	// waits in the channel.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)

	cfg, err := f.load(c)
	if err != nil {
		return err
	}
	log, level, err := cfg.Log.Logger(c.errOut)
	if err != nil {
		return err
	}
	if f.resetStore {
		aside, err := store.ResetFile(cfg.StorePath())
		if err != nil {
			return fmt.Errorf("reset the store: %w", err)
		}
		if aside != "" {
			log.Warn("store set aside", "file", aside)
		}
	}
	// A million bans are some 80 MB that hardly change: with the default of 100 the
	// garbage of a mass merge would take as much again before it is collected.
	debug.SetGCPercent(50)
	build := thisBuild()
	a, err := mesh.Open(ctx, cfg, mesh.Options{Version: build.Version, Commit: build.Commit, Logger: log, Level: level})
	if err != nil {
		return err
	}
	go f.reload(ctx, c, a, log, hup)
	done := make(chan struct{})
	notifyCtx, stopNotifying := context.WithCancel(ctx)
	go func() {
		defer close(done)
		// It asks over the socket, as every command does: an answer from within would hide a socket that hangs.
		newSupervisor(c.getenv, log).run(notifyCtx, control.NewClient(cfg.Socket))
	}()
	err = a.Run(ctx)
	// An agent that was told to leave stops by itself: systemd hears that too.
	stopNotifying()
	// Awaited, so that the process does not end before STOPPING=1 is sent.
	<-done
	return err
}

// reload takes over a changed configuration at each SIGHUP; a wrong one changes
// nothing.
func (f *agentFlags) reload(ctx context.Context, c *console, agent *mesh.Agent, log *slog.Logger, hup <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		waiting, err := agent.Reload(ctx, func() (config.Config, error) { return f.load(c) })
		switch {
		case err != nil:
			log.Error("configuration not taken over", "error", err)
		case len(waiting) > 0:
			log.Warn("configuration taken over; some keys wait for a restart", "keys", strings.Join(waiting, " "))
		default:
			log.Info("configuration taken over")
		}
	}
}

// load reads the file and puts the flags over it.
func (f *agentFlags) load(c *console) (config.Config, error) {
	path := f.config
	// A file that is named must be there. Without the usual one flags and defaults may do, as for a first try.
	if path == "" {
		if _, err := os.Stat(defaultConfig); err == nil {
			path = defaultConfig
		}
	}
	file := &config.File{Config: config.Default()}
	if path != "" {
		var err error
		if file, err = config.Load(path); err != nil {
			defaults := config.Default()
			return config.Config{}, mesh.CannotUse(err, &defaults)
		}
	}
	// The variable wins over the file, and a flag over the variable.
	if socket := c.getenv("BANMESH_SOCKET"); socket != "" && f.socket == "" {
		file.Socket = socket
	}
	for _, o := range []struct {
		key  *string
		flag string
	}{
		{&file.Name, f.name}, {&file.DataDir, f.dataDir}, {&file.Socket, f.socket},
		{&file.SocketGroup, f.socketGroup}, {&file.Log.Level, f.logLevel}, {&file.Gossip.Bind, f.bind}, {&file.Gossip.Advertise, f.advertise},
		{&file.Gossip.Profile, f.profile}, {&file.Gossip.Keyring, f.keyring}, {&file.Gossip.Label, f.label},
	} {
		if o.flag != "" {
			*o.key = o.flag
		}
	}
	if join := f.join.Value(); len(join) > 0 {
		file.Join = join
	}
	// A flag that is not given is false, which must not undo what the file says.
	file.Gossip.Insecure = file.Gossip.Insecure || f.insecure
	return file.Config, file.Validate()
}
