// Command banmesh shares bans between routers and brings them into the conductor's configuration.
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
	keepSecrets()
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}

// Exit codes.
const (
	exitDone   = 0
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
// invalid counts as misuse, as if the command had noticed it itself.
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
