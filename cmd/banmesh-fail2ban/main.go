// Command banmesh-fail2ban is the part of banmesh that runs as root: it lets the agent, which does not, tell the local
// fail2ban of unbans and allows, and nothing else. systemd starts it with its socket at the agent's first call; see
// examples/systemd/banmesh-fail2ban.socket.
//
// Package helper decides what a caller may ask for. All that configures it is on its command line, in a unit that belongs to
// root: it must read nothing that the agent's user can write, or that user could do as root what the agent may not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"banmesh/mesh/fail2ban/helper"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "banmesh-fail2ban:", err)
		os.Exit(1)
	}
}

// run is the helper's whole life: systemd starts it with the first call (socket activation), and with --idle
// it ends by itself. It runs as root, so it reads nothing that the agent's user may write.
func run(args []string) error {
	flags := flag.NewFlagSet("banmesh-fail2ban", flag.ContinueOnError)
	agent := flags.String("user", "banmesh", "the `USER` that the agent runs as, who may call beside root")
	client := flags.String("client", "fail2ban-client", "the `PROGRAM` that asks fail2ban, with its arguments")
	feed := flags.String("feed", "", "the `JAIL` that the agent fills with other routers' bans (enforce.jail)")
	idle := flags.Duration("idle", 0, "end when nobody has called for `DURATION`; systemd starts it again")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || len(strings.Fields(*client)) == 0 {
		return errors.New("unexpected arguments: see --help")
	}
	// As a number, which is what the kernel says of a caller (SO_PEERCRED, unix(7)).
	u, err := user.Lookup(*agent)
	if err != nil {
		return err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	ln, err := listener()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	server := helper.Server{
		Client: strings.Fields(*client), Users: []uint32{uint32(uid)}, MeshJail: *feed, Idle: *idle,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	started := time.Now()
	server.Logger.Info("serving", "user", *agent, "uid", uid, "feed", *feed)
	err = server.Serve(ctx, ln)
	server.Logger.Info("ended", "after", time.Since(started).Round(time.Second))
	return err
}

// listener is the socket that systemd made (sd_listen_fds(3)): the first descriptor after the standard three.
func listener() (*net.UnixListener, error) {
	// The variables may be inherited. Only the process that they name may take the descriptors, and exactly one is expected:
	// the unit has one socket.
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || os.Getenv("LISTEN_FDS") != "1" {
		return nil, errors.New("systemd starts this program with its socket: systemctl enable --now banmesh-fail2ban.socket")
	}
	const first = 3
	// The fail2ban-client that it starts must not hold the socket.
	syscall.CloseOnExec(first)
	f := os.NewFile(first, "socket")
	// FileListener has made a copy of the descriptor by then.
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("the socket of systemd: %w", err)
	}
	unix, ok := ln.(*net.UnixListener)
	if !ok {
		return nil, fmt.Errorf("the socket of systemd is not a unix socket but %s", ln.Addr().Network())
	}
	return unix, nil
}
