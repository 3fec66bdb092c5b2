// Command banmesh-hook is the light way into `banmesh fail2ban ban` and its like, for fail2ban's action: fail2ban starts a
// process for each ban of each jail and waits for it. It loads none of what the agent needs.
//
// Package hook does the work, as it does for banmesh. This program adds only what keeps it small: it reads no configuration, and
// so finds the spool of an agent that has left a note beside its socket. Where there is no note, it hands the call over to
// banmesh. The exit code is 0 even if the call is lost, because fail2ban would repeat it and hold up its jails; 2 is for an
// action that calls it in the wrong way.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"banmesh/mesh/hook"
	"banmesh/mesh/spool"
)

func main() { os.Exit(run(os.Args[1:])) }

// run does what `banmesh fail2ban …` does, in a program that starts faster: fail2ban starts one for each
// address that it bans.
func run(args []string) int {
	if len(args) < 2 || args[0] != "fail2ban" || !hook.Known(args[1]) {
		fmt.Fprintln(os.Stderr, "banmesh-hook: want fail2ban and one of its hooks, as the action has them; people use banmesh")
		return 2
	}
	code, err := hook.Run(context.Background(), args[1:], hook.Env{
		Getenv: os.Getenv, Stderr: os.Stderr, Now: time.Now, Syslog: hook.Syslog, SpoolOf: spoolOf, Again: hook.Again,
	})
	if errors.Is(err, hook.ErrElsewhere) {
		// The rare case: the agent is away and has never left word. banmesh itself reads configurations.
		program, _ := whole()
		err = syscall.Exec(program, append([]string{program}, args...), os.Environ())
		fmt.Fprintf(os.Stderr, "banmesh-hook: lost: run %s: %v\n", program, err)
	}
	return code
}

// spoolOf knows where the agents have their spools that have run.
func spoolOf(socket string) (*spool.Spool, error) {
	s, err := spool.Of(socket)
	if errors.Is(err, spool.ErrUnknown) {
		if _, missing := whole(); missing == nil {
			return nil, hook.ErrElsewhere
		}
	}
	return s, err
}

// whole finds the banmesh beside this program, or in PATH.
func whole() (string, error) {
	if self, err := os.Executable(); err == nil {
		program := filepath.Join(filepath.Dir(self), "banmesh")
		if _, err := os.Stat(program); err == nil {
			return program, nil
		}
	}
	return exec.LookPath("banmesh")
}
