package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
	"banmesh/mesh/spool"
)

// fail2ban runs the hooks of all its jails one after the other, so a hook that hangs holds up every firewall ban of the
// machine: the agent has hookCall to answer, and the hook ends after hookTime whatever the disk does.
const (
	hookTime = 800 * time.Millisecond
	hookCall = 500 * time.Millisecond
)

var hookUsage = []struct {
	event control.HookEvent
	usage string
}{
	{control.HookStart, "a jail starts (actionstart)"},
	{control.HookStop, "a jail stops (actionstop)"},
	{control.HookFlush, "a jail lets go of all its bans (actionflush)"},
	{control.HookBan, "an address is banned (actionban)"},
	{control.HookProlong, "a ban grows longer (actionprolong)"},
	{control.HookUnban, "an address is let go (actionunban)"},
}

func isHook(word string) bool {
	for _, h := range hookUsage {
		if string(h.event) == word {
			return true
		}
	}
	return false
}

func fail2banCommand(c *console) *cli.Command {
	cmd := &cli.Command{
		Name: "fail2ban", Category: "fail2ban", Usage: "the hooks of the fail2ban action, and the local fail2ban's health",
		Description: "start, stop, flush, ban, prolong and unban are called by fail2ban, not by people: silent, done within a second whatever the agent\ndoes, exit 0 unless misused. What reaches no agent waits in the spool. import and check are for people.\n\n" +
			"Example:\n   banmesh fail2ban ban --jail=\"sshd\" --ip=\"203.0.113.7\" --time=\"1767225600\" --bantime=\"600\" --failures=\"5\" --restored=\"0\"",
	}
	for _, h := range hookUsage {
		cmd.Subcommands = append(cmd.Subcommands, hookCommand(c, h.event))
	}
	cmd.Subcommands = append(cmd.Subcommands, fail2banImportCommand(c), fail2banCheckCommand(c))
	return cmd
}

// hook is what the flags of one hook say: fail2ban's tags as it fills them in.
type hook struct {
	event    control.HookEvent
	jail     jail
	ip       string
	time     seconds
	bantime  banTime
	failures count
	restored binary
	spool    string
}

func hookCommand(c *console, event control.HookEvent) *cli.Command {
	h := &hook{event: event}
	usage := ""
	for _, u := range hookUsage {
		if u.event == event {
			usage = u.usage
		}
	}
	example := fmt.Sprintf("banmesh fail2ban %s --jail=\"<name>\"", event)
	if h.ofAddress() {
		example += " --ip=\"<ip>\" --time=\"<time>\" --bantime=\"<bantime>\" --failures=\"<failures>\" --restored=\"<restored>\""
	}
	return &cli.Command{
		Name: string(event), Usage: usage,
		Description: "Example, as the action file has it:\n   " + example,
		Flags: []cli.Flag{
			&cli.GenericFlag{Name: "jail", Value: &h.jail, Usage: "`NAME` of the jail, fail2ban's <name>"},
			&cli.StringFlag{Name: "ip", Destination: &h.ip, Usage: "`ADDRESS`, fail2ban's <ip>"},
			&cli.GenericFlag{Name: "time", Value: &h.time, Usage: "when the offence was, `UNIX` seconds, fail2ban's <time>"},
			&cli.GenericFlag{Name: "bantime", Value: &h.bantime, Usage: "`SECONDS` from then, -1 without end, fail2ban's <bantime>"},
			&cli.GenericFlag{Name: "failures", Value: &h.failures, Usage: "`N`, fail2ban's <failures>"},
			&cli.GenericFlag{Name: "restored", Value: &h.restored, Usage: "`0|1`, fail2ban's <restored>"},
			c.socketFlag(), c.spoolFlag(&h.spool),
		},
		Action: func(cc *cli.Context) error { return h.run(cc.Context, c, cc.Args().Slice()) },
	}
}

func (h *hook) ofAddress() bool {
	return h.event == control.HookBan || h.event == control.HookProlong || h.event == control.HookUnban
}

func (h *hook) run(ctx context.Context, c *console, args []string) error {
	call, err := h.call(c.now(), args)
	if err != nil {
		return usageError{fmt.Errorf("fail2ban %s: %w", h.event, err)}
	}
	note, err := h.deliver(ctx, c, call)
	if exitCode(err) == exitUsage {
		return fmt.Errorf("fail2ban %s %s: %w", h.event, h.ip, err)
	}
	if err != nil {
		note = oneLine(err)
	}
	if note != "" {
		// Failing would only make fail2ban repeat it once, and hold up the other jails meanwhile.
		what := fmt.Sprintf("fail2ban %s %s (jail %s): %s", h.event, h.ip, string(h.jail), note)
		c.warn("%s", what)
		c.toSyslog(what)
	}
	return nil
}

// call turns fail2ban's tags into a call with absolute times.
func (h *hook) call(now time.Time, args []string) (control.HookCall, error) {
	call := control.HookCall{Event: h.event, Jail: string(h.jail), Failures: uint32(h.failures), Restored: bool(h.restored), At: control.At(now)}
	if len(args) > 0 {
		return call, fmt.Errorf("unexpected argument %s", control.Show(args[0]))
	}
	if h.jail == "" {
		return call, errors.New("--jail is missing")
	}
	if !h.ofAddress() {
		return call, nil
	}
	if h.ip == "" {
		return call, errors.New("--ip is missing")
	}
	p, err := control.ParsePrefix(h.ip)
	if err != nil {
		return call, err
	}
	if p.Addr().IsUnspecified() {
		// What fail2ban passes on for 192.0.2.1/0.
		return call, fmt.Errorf("%s is no one's address", p.Addr())
	}
	call.Prefixes = control.Prefixes{p}
	call.Start = control.At(h.time.at)
	if !h.bantime.given {
		if h.event != control.HookUnban {
			return call, errors.New("--bantime is missing")
		}
		return call, nil
	}
	start := h.time.at
	if start.IsZero() {
		if h.event == control.HookUnban {
			return call, nil
		}
		start = now
		call.Start = call.At
	}
	call.Until = h.bantime.until(start)
	return call, nil
}

// deliver passes the call on; note is what is to be said of it although it went well.
func (h *hook) deliver(ctx context.Context, c *console, call control.HookCall) (note string, err error) {
	err = c.ask(ctx, hookCall, func(ctx context.Context, cl *control.Client) error {
		reply, err := cl.Fail2ban(ctx, call)
		note = reply.Note
		return err
	})
	if err == nil {
		return note, nil
	}
	var refused *control.Error
	if errors.As(err, &refused) && refused.Code == control.CodeInvalid {
		return "", err
	}
	// Also what the agent tried and failed at: fail2ban does not ask again, the spool does.
	kept := make(chan error, 1)
	go func() {
		_, err := c.put(h.spool, spool.Entry{Time: c.now(), Hook: &call})
		kept <- err
	}()
	timer := time.NewTimer(hookTime - hookCall)
	defer timer.Stop()
	select {
	case lost := <-kept:
		if lost != nil {
			return "", fmt.Errorf("lost: %w; %w", err, lost)
		}
		return "", nil
	case <-timer.C:
		return "", fmt.Errorf("perhaps lost: %w; the disk of the spool does not answer in time", err)
	}
}

// banTime is fail2ban's <bantime>: seconds, or -1 without end. It may carry a fraction where a formula makes it.
type banTime struct {
	given   bool
	forever bool
	length  time.Duration
}

func (b *banTime) String() string {
	if !b.given {
		return ""
	}
	if b.forever {
		return "-1"
	}
	return strconv.FormatFloat(b.length.Seconds(), 'f', -1, 64)
}

func (b *banTime) Set(s string) error {
	f, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil || math.IsNaN(f) || math.IsInf(f, 0):
		return fmt.Errorf("%s is not a number of seconds", control.Show(s))
	case f < 0 && f != -1:
		return fmt.Errorf("%s is negative; only -1 is allowed and means without end", control.Show(s))
	}
	// Increments may grow beyond all bounds; refusing such a ban would let the worst offender in.
	*b = banTime{given: true, forever: f == -1 || f > control.MaxDuration.Seconds()}
	if !b.forever {
		b.length = time.Duration(f * float64(time.Second))
	}
	return nil
}

func (b *banTime) until(start time.Time) control.Until {
	if b.forever {
		return control.Never
	}
	return control.UntilAt(start.Add(b.length))
}
