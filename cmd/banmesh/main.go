// Command banmesh shares bans between routers and brings them into the conductor's configuration.
//
// One program is both the agent (banmesh agent, see package mesh) and everything that people and scripts say to it. A
// file holds a command, which parses its words, makes calls over the control socket (package control) and prints the
// answers. What a ban means, and which ones are refused, is decided by the agent: the socket has other users. A few
// commands are about the machine itself and need no agent: init, join with a token and leave --uninstall (package
// install), doctor, config check, conductor trust, fail2ban check.
//
// A command line goes from run to console.execute, which finds the commands that fail2ban waits for before it builds the
// library's application. Answers go to stdout, notes and errors to stderr, each in one line, so that a pipe gets nothing
// but the answer. A command keeps no state of its own; a ban or unban that reaches no agent is left in that agent's spool
// (deliver.go). The exit code is a contract with scripts: see exitCode and docs/interfaces.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"banmesh/mesh/control"
)

func main() {
	// Before anything is read that must not show in a core file.
	keepSecrets()
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}

// Exit codes.
const (
	exitDone = 0
	// Tried, and not as asked: also an address that was not banned, a serious finding, a difference with diff
	// --exit-code.
	exitFailed = 1
	// As with most tools: the same command line will never work.
	exitUsage = 2
	// Apart from a refusal, so that a script knows that it may try again later.
	exitNoAgent = 3
)

// run executes one command line and returns the exit code. fail2ban waits for some of them with all its jails, so those
// are found before anything else is built.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer, getenv func(string) string) int {
	c := newConsole(in, out, errOut, getenv)
	err := c.execute(ctx, args)
	var status exitStatus
	// Without an error status is still zero, which is exitDone.
	if err == nil || errors.As(err, &status) {
		return int(status)
	}
	fmt.Fprintf(errOut, "banmesh: %s\n", oneLine(err))
	return exitCode(err)
}

// exitStatus is an exit code of which everything has been said.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is a command line that cannot be meant.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitCode is the whole of the contract: 0 done, 1 failed, 2 misused, 3 no agent. What the agent refuses as
// invalid counts as misuse, as if the command had noticed it itself. The same call would be refused again
// however often it is repeated, and one that is too large as well.
func exitCode(err error) int {
	var usage usageError
	var refused *control.Error
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, control.ErrNoAgent):
		return exitNoAgent
	case errors.As(err, &refused) && (refused.Code == control.CodeInvalid || refused.Code == control.CodeTooLarge):
		return exitUsage
	}
	return exitFailed
}

// oneLine is an error that somebody else may have worded.
func oneLine(err error) string { return control.OneLine(err.Error()) }
