// Package fail2ban connects the agent with its router's own fail2ban. Hooks turn the calls of the banmesh action into bans and
// lifts of the set. The Notifier tells fail2ban what the mesh lifted or allowed, from the set's queue of notices. Check
// finds common faults of fail2ban's installation.
//
// All of them use the Client, which runs fail2ban-client, through root's helper if there is one. fail2ban answers nobody while
// it runs an action, so no hook may wait for it: Hooks and Notifier have goroutines of their own for that.
package fail2ban

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/mesh/fail2ban/helper"
)

// The errors by which callers distinguish failures of the client. Returned errors wrap these with the failed call and the
// client's message.
var (
	ErrNoClient   = errors.New("the fail2ban client is not installed")
	ErrNotRunning = errors.New("fail2ban does not run")
	ErrDenied     = errors.New("no permission for fail2ban's socket")
	ErrNoJail     = errors.New("fail2ban has no such jail")
	ErrTimeout    = errors.New("fail2ban did not answer in time")
)

const (
	// defaultTimeout bounds a call. fail2ban usually answers in 0.1 s, but not while it works on an `unban --all` or restarts a
	// jail.
	defaultTimeout = 15 * time.Second

	// maxOutput bounds how much output of a call is kept: about 400,000 bans.
	maxOutput = 32 << 20

	// maxBatch is how many addresses the Notifier passes in one call: fail2ban runs the jail's actions for each before it
	// answers, and answers nobody meanwhile.
	maxBatch = 25
)

// ClientConfig says how to ask the local fail2ban.
type ClientConfig struct {
	Command  string         // program, with arguments separated by blanks; default fail2ban-client
	Socket   string         // passed with -s unless empty
	Helper   string         // socket of root's helper, which is asked instead if it exists; "" for none
	timeout  time.Duration  // of one call; default 15 s
	location *time.Location // the zone in which fail2ban prints times; default time.Local

	// Shift is added to fail2ban's times, for a router whose clock is wrong: it turns them into times of the set, like those of
	// Calls and the Now of Hooks and Notifier. nil adds nothing.
	Shift func() time.Duration
}

// Client asks the local fail2ban through fail2ban-client. No method may be called from inside an action of fail2ban, which
// answers nobody while an action runs. A Client has no state and may be used by several goroutines.
type Client struct {
	run      func(ctx context.Context, args ...string) (string, error)
	journal  func(ctx context.Context, args ...string) (string, error) // runs journalctl
	sockets  []string                                                  // where fail2ban's own socket is looked for
	timeout  time.Duration
	location *time.Location
	shift    func() time.Duration
}

// NewClient returns a Client; nothing is run yet.
func NewClient(c ClientConfig) *Client {
	command := strings.Fields(c.Command)
	if len(command) == 0 {
		command = []string{"fail2ban-client"}
	}
	if c.Socket != "" {
		command = append(command, "-s", c.Socket)
	}
	return NewClientWith(c, func(ctx context.Context, args ...string) (string, error) {
		if c.Helper != "" {
			// Check each time: the helper may be installed while the agent runs.
			if _, err := os.Lstat(c.Helper); err == nil {
				return askHelper(ctx, c.Helper, args)
			}
		}
		return execute(ctx, append(command[:len(command):len(command)], args...))
	})
}

// NewClientWith returns a Client that runs its commands through a function, which returns the errors above.
func NewClientWith(c ClientConfig, run func(context.Context, ...string) (string, error)) *Client {
	if c.timeout <= 0 {
		c.timeout = defaultTimeout
	}
	if c.location == nil {
		c.location = time.Local
	}
	if c.Shift == nil {
		c.Shift = func() time.Duration { return 0 }
	}
	journal := func(ctx context.Context, args ...string) (string, error) {
		return execute(ctx, append([]string{"journalctl"}, args...))
	}
	sockets := []string{"/run/fail2ban/fail2ban.sock", "/var/run/fail2ban/fail2ban.sock"}
	if c.Socket != "" {
		sockets = []string{c.Socket}
	}
	return &Client{run: run, journal: journal, sockets: sockets, timeout: c.timeout, location: c.location, shift: c.Shift}
}

// ask runs one command of fail2ban's protocol. Its errors name the command's words, but not the addresses, of which there may
// be many.
func (c *Client) ask(ctx context.Context, args ...string) (string, error) {
	within, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	out, err := c.run(within, args...)
	if err == nil {
		return out, nil
	}
	if ctx.Err() == nil && within.Err() != nil {
		err = fmt.Errorf("%w (%v)", ErrTimeout, c.timeout)
	}
	return "", fmt.Errorf("fail2ban-client %s: %w", strings.Join(args[:min(len(args), 3)], " "), err)
}

// jails returns the names of the running jails. fail2ban lists them with a comma and a blank between, which a name may hold as
// well: its count tells, and then fail2ban is asked which names it knows.
func (c *Client) jails(ctx context.Context) ([]string, error) {
	out, err := c.ask(ctx, "status")
	if err != nil {
		return nil, err
	}
	count := 0
	for line := range strings.Lines(out) {
		if _, n, ok := strings.Cut(line, "Number of jail:"); ok {
			count, _ = strconv.Atoi(strings.TrimSpace(n))
		}
		if _, list, ok := strings.Cut(line, "Jail list:"); ok {
			names := splitList(list)
			if len(names) > count && count > 0 {
				names = c.rejoined(ctx, names, count)
			}
			return names, nil
		}
	}
	return nil, fmt.Errorf("fail2ban-client status: no jail list in %q", clip(out))
}

// rejoined puts the parts of count names, of which some hold the list's separator, together again. The longest that fail2ban
// knows is the name, as another may be its beginning.
func (c *Client) rejoined(ctx context.Context, parts []string, count int) (names []string) {
	for len(parts) > 0 {
		n := max(1, min(len(parts), 1+len(parts)-(count-len(names)))) // with each of the others one part
		for ; n > 1; n-- {
			if _, err := c.ask(ctx, "get", strings.Join(parts[:n], separator), "ignoreip"); err == nil {
				break
			}
		}
		names = append(names, strings.Join(parts[:n], separator))
		parts = parts[n:]
	}
	return names
}

// Banned returns what a jail holds, in the order in which it ends. ErrNoJail
// where fail2ban has no such jail.
func (c *Client) Banned(ctx context.Context, jail string) ([]Banned, error) {
	out, err := c.ask(ctx, "get", jail, "banip", "--with-time")
	if err != nil {
		return nil, err
	}
	banned, err := parseBanned(out, c.location)
	shift := c.shift()
	for i := range banned {
		banned[i].Start = banned[i].Start.Add(shift)
	}
	return banned, err
}

// Ban makes a jail ban prefixes, for the jail's ban time: a ban by hand has no
// time of its own (fail2ban issue 4081), and its ignore list is not asked (3853).
// One that it holds already is no error. fail2ban runs the jail's actions for
// each before this returns, and does nothing else meanwhile: give few at a time.
func (c *Client) Ban(ctx context.Context, jail string, prefixes []netip.Prefix) error {
	return c.each(ctx, prefixes, "set", jail, "banip")
}

// Unban makes a jail let prefixes go. One that it does not hold is no error.
// fail2ban runs the jail's unban actions, ours among them, before this returns,
// and does nothing else meanwhile: give few at a time.
func (c *Client) Unban(ctx context.Context, jail string, prefixes []netip.Prefix) error {
	return c.each(ctx, prefixes, "set", jail, "unbanip")
}

// Empty makes a jail let go all that it holds, at once where its ban action knows
// how. Its configuration is read again.
func (c *Client) Empty(ctx context.Context, jail string) error {
	_, err := c.ask(ctx, "reload", "--unban", jail)
	return err
}

// ignored returns the jail's ignore list. Host names in it are left out.
func (c *Client) ignored(ctx context.Context, jail string) ([]netip.Prefix, error) {
	out, err := c.ask(ctx, "get", jail, "ignoreip")
	if err != nil {
		return nil, err
	}
	var ignored []netip.Prefix
	for line := range strings.Lines(out) {
		text := strings.TrimSpace(line)
		entry, ok := strings.CutPrefix(text, "|- ")
		if !ok {
			entry, ok = strings.CutPrefix(text, "`- ")
		}
		if !ok {
			continue
		}
		if prefix, err := parsePrefix(entry); err == nil {
			ignored = append(ignored, prefix)
		}
	}
	return ignored, nil
}

// ignore adds to a jail's ignore list until fail2ban reloads its configuration.
func (c *Client) ignore(ctx context.Context, jail string, prefixes []netip.Prefix) error {
	for batch := range slices.Chunk(prefixes, maxBatch) {
		if err := c.each(ctx, batch, "set", jail, "addignoreip"); err != nil {
			return err
		}
	}
	return nil
}

// unignore takes a prefix from a jail's ignore list. One that is not in it is no
// error.
func (c *Client) unignore(ctx context.Context, jail string, prefix netip.Prefix) error {
	_, err := c.ask(ctx, "set", jail, "delignoreip", formatPrefix(prefix))
	if err != nil && strings.Contains(err.Error(), "not in list") {
		return nil
	}
	return err
}

// each runs a command with the prefixes as its last words; without any it does
// nothing.
func (c *Client) each(ctx context.Context, prefixes []netip.Prefix, command ...string) error {
	if len(prefixes) == 0 {
		return nil
	}
	for _, prefix := range prefixes {
		command = append(command, formatPrefix(prefix))
	}
	_, err := c.ask(ctx, command...)
	return err
}

// execute runs a program and returns its stdout. A failure is classified by what
// fail2ban-client prints, on either stream: its exit status is always 255.
func execute(ctx context.Context, argv []string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	stdout, stderr := &bounded{left: maxOutput}, &bounded{left: 64 << 10}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.WaitDelay = time.Second // a wrapper's child may keep the pipes open
	err := cmd.Run()
	switch {
	case err == nil && stdout.cut:
		return "", fmt.Errorf("more than %d bytes of answer", maxOutput)
	case err == nil:
		return stdout.String(), nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%w (%s)", ErrNoClient, argv[0])
	}
	said := strings.TrimSpace(stdout.String() + " " + stderr.String())
	if said == "" {
		said = "it printed nothing"
	}
	return "", fmt.Errorf("%w: %s", classify(said, err), clip(said))
}

// askHelper has root's helper run the command.
func askHelper(ctx context.Context, socket string, args []string) (string, error) {
	reply, err := helper.Ask(ctx, socket, args)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("%w: %w", ErrDenied, err)
	case err != nil:
		return "", err
	case reply.Code == helper.CodeNoClient:
		return "", fmt.Errorf("%w (%s)", ErrNoClient, reply.Error)
	case reply.Error != "":
		return "", fmt.Errorf("%w: %s", classify(reply.Error, errHelper), clip(reply.Error))
	}
	return reply.Out, nil
}

// errHelper is a failure that the helper told and that has no sentinel.
var errHelper = errors.New("banmesh-fail2ban")

// classify finds the sentinel for what fail2ban-client (0.11 to 1.1) printed.
func classify(said string, err error) error {
	for _, known := range []struct {
		text string
		err  error
	}{
		{"Sorry but the jail", ErrNoJail},
		{"Is fail2ban running?", ErrNotRunning},
		{"Unable to contact server", ErrNotRunning},
		{"Permission denied to socket", ErrDenied},
	} {
		if strings.Contains(said, known.text) {
			return known.err
		}
	}
	return err
}

// bounded keeps the first bytes written to it and swallows the rest, so that the
// writing process is never stopped by a full pipe.
type bounded struct {
	kept bytes.Buffer
	left int
	cut  bool
}

// Write takes everything and keeps the beginning: a writer that refused would end the program whose output it
// is.
func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.cut = b.cut || n < len(p)
	b.left -= n
	b.kept.Write(p[:n])
	return len(p), nil
}

func (b *bounded) String() string { return b.kept.String() }

// separator is what fail2ban joins names with. One may hold blanks, as in [Wordpress (soft)].
const separator = ", "

// splitList takes a list of names apart.
func splitList(list string) []string {
	var names []string
	for name := range strings.SplitSeq(strings.TrimSpace(list), separator) {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

// clip shortens what a foreign program said to what fits a log line.
func clip(s string) string { return excerpt.Line(s, 300) }
