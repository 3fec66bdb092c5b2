package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"banmesh/mesh/control"
	"banmesh/mesh/hook"
	"banmesh/mesh/login"
)

// console is where a command runs: its streams, its environment, and the flags that many commands share. There is one
// for a command line. A test makes its own, and so needs neither this machine's clock, nor its logins, nor its /etc.
type console struct {
	in          io.Reader
	out, errOut io.Writer
	getenv      func(string) string
	now         func() time.Time
	utmp        string // who is logged in
	syslog      string // the socket of the machine's log
	config      string // the agent's configuration, where no --config names another

	coloured *bool // nil before it is known

	// Set from the flags before a command's action runs.
	socket string
	json   bool
	yes    bool
}

func newConsole(in io.Reader, out, errOut io.Writer, getenv func(string) string) *console {
	return &console{in: in, out: out, errOut: errOut, getenv: getenv, now: time.Now, utmp: login.UtmpPath, syslog: hook.Syslog, config: defaultConfig}
}

// execute looks for the commands that must be fast before it builds the library's application, which costs
// more than the ban itself. Order: completion, fail2ban's hooks, ban and unban, everything else.
func (c *console) execute(ctx context.Context, args []string) error {
	// The shell adds the flag as the last word to a line that is still being typed, which may be no valid one.
	if n := len(args); n > 0 && args[n-1] == completeFlag {
		c.complete(ctx, args[:n-1])
		return nil
	}
	if len(args) > 1 && args[0] == "fail2ban" && hook.Known(args[1]) && !asksForHelp(args[2:]) {
		return c.runHook(ctx, args[1:])
	}
	if build := hotCommand(args); build != nil {
		return c.runHot(ctx, build(c), args)
	}
	return c.runApp(ctx, args)
}

// asksForHelp finds --help among words that are all flags.
func asksForHelp(words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return w == "--help" || w == "-h" || w == "-help" })
}

// socketFlag takes the variable for its default, so that the flag wins over it.
func (c *console) socketFlag() cli.Flag {
	path := c.getenv("BANMESH_SOCKET")
	if path == "" {
		path = control.DefaultSocket
	}
	return &cli.StringFlag{Name: "socket", Value: path, Destination: &c.socket, Usage: "control socket of the agent, `PATH` (also BANMESH_SOCKET)"}
}

func (c *console) jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Destination: &c.json, Usage: "print JSON for programs"}
}

func (c *console) yesFlag() cli.Flag {
	return &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Destination: &c.yes, Usage: "do not ask"}
}

func (c *console) client() *control.Client { return control.NewClient(c.socket) }

// answerTime bounds the calls that the agent answers out of its memory.
const answerTime = 10 * time.Second

// ask runs one call to the agent with a deadline, so that no command hangs on an agent that does.
func (c *console) ask(ctx context.Context, limit time.Duration, call func(context.Context, *control.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return call(ctx, c.client())
}

// buffered gives write a buffered stdout. A list that does not arrive whole must fail, also a short one on a full disk, which
// shows only where the buffer is written.
func (c *console) buffered(write func(out *bufio.Writer) error) error {
	out := bufio.NewWriterSize(c.out, 64<<10)
	err := write(out)
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	return err
}

// confirm asks for what cannot be undone.
func (c *console) confirm(what string) error { return c.agree(what + ": this cannot be undone") }

// agree asks on a terminal; elsewhere the answer must be given with --yes.
func (c *console) agree(what string) error {
	if c.yes {
		return nil
	}
	// Nobody is there to answer. A script that does not say --yes never will: exit 2.
	if !isTerminal(c.in) {
		return usagef("%s: use --yes to confirm", what)
	}
	// On stderr, since stdout may be a file. The end of the input counts as an empty answer, which is no.
	fmt.Fprintf(c.errOut, "%s. Go on? [y/N] ", what)
	line, err := bufio.NewReader(c.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return fmt.Errorf("%s: not done", what)
}

func (c *console) warn(format string, args ...any) {
	fmt.Fprintf(c.errOut, "banmesh: "+format+"\n", args...)
}

// progress shows on a terminal how far long work is, on one line that the next one replaces; "" clears it.
func (c *console) progress(what string) {
	if !isTerminal(c.errOut) {
		return
	}
	if what != "" {
		what += " ..."
	}
	// EL of ECMA-48 erases what a longer line has left.
	fmt.Fprintf(c.errOut, "\r\x1b[K%s", what)
}

// isTerminal is false for the buffers of tests and for pipes: no colours and no questions there.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// The colours, as ANSI's select graphic rendition.
type colour string

const (
	// These are parameters of ECMA-48's SGR sequence.
	plain  colour = ""
	bold   colour = "1"
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
	dim    colour = "2"
)

// colours says whether to use them: on a terminal that can, unless NO_COLOR (https://no-color.org) forbids it. It asks the
// terminal once: a long list has many cells.
func (c *console) colours() bool {
	if c.coloured == nil {
		yes := c.getenv("NO_COLOR") == "" && c.getenv("TERM") != "dumb" && isTerminal(c.out)
		c.coloured = &yes
	}
	return *c.coloured
}

// paint colours s where colours are used.
func (c *console) paint(k colour, s string) string {
	if k == plain || s == "" || !c.colours() {
		return s
	}
	return "\x1b[" + string(k) + "m" + s + "\x1b[0m"
}
