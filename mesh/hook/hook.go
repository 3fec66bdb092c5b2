// Package hook is what fail2ban's action runs: it hands to the agent what a jail was told. fail2ban starts a process for
// each ban and waits for it with all its jails, so this package is small to load, answers within Time whatever the agent
// and the disk do, and keeps in a spool what no agent took.
package hook

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/spool"
)

// Time is how long a hook takes at most, beside the start of its process.
const Time = 800 * time.Millisecond

// callTime is the agent's share of it; the rest is for the spool.
const callTime = 500 * time.Millisecond

// Syslog is where the machine's log takes messages (syslog(3), systemd-journald(8)).
const Syslog = "/dev/log"

// syslogTime bounds a message to it.
const syslogTime = 50 * time.Millisecond

// Exit codes.
const (
	exitDone  = 0
	exitUsage = 2
)

// Events are the hooks with what each is for.
var Events = []struct {
	Event control.HookEvent
	Usage string
}{
	{control.HookStart, "a jail starts (actionstart)"},
	{control.HookStop, "a jail stops (actionstop)"},
	{control.HookFlush, "a jail lets go of all its bans (actionflush)"},
	{control.HookBan, "an address is banned (actionban)"},
	{control.HookProlong, "a ban grows longer (actionprolong)"},
	{control.HookUnban, "an address is let go (actionunban)"},
}

// Known reports whether a word names a hook.
func Known(word string) bool {
	for _, e := range Events {
		if string(e.Event) == word {
			return true
		}
	}
	return false
}

// OfAddress reports whether the hook is about an address and not about a whole jail.
func OfAddress(e control.HookEvent) bool {
	return e == control.HookBan || e == control.HookProlong || e == control.HookUnban
}

// ErrElsewhere is returned by Env.SpoolOf for "another program knows", and then by Run at once: the call was not taken
// and is not kept.
var ErrElsewhere = errors.New("the spool has to be found from the configuration")

// Env is the world of one run.
type Env struct {
	Getenv func(string) string
	Stderr io.Writer
	Now    func() time.Time
	Syslog string // socket of the machine's log
	// SpoolOf finds the spool of the agent of a socket.
	SpoolOf func(socket string) (*spool.Spool, error)
}

// Run is the command line `fail2ban EVENT --jail=NAME …`, without the word fail2ban. It returns the exit code: 0 unless
// the call can never be taken, because fail2ban would only repeat it, and hold up its jails meanwhile. The error is
// ErrElsewhere or nil.
func Run(ctx context.Context, args []string, env Env) (int, error) {
	event := control.HookEvent(args[0])
	h := newFlags(env.Getenv)
	call, err := h.parse(event, args[1:], env.Now())
	if err == nil {
		var note string
		if note, err = h.deliver(ctx, call, env); errors.Is(err, ErrElsewhere) {
			return exitDone, ErrElsewhere
		}
		if invalid(err) {
			err = fmt.Errorf("%s: %w", h.ip, err)
		} else {
			if err != nil {
				note = err.Error()
			}
			if note != "" {
				env.warn(fmt.Sprintf("fail2ban %s %s (jail %s): %s", event, h.ip, h.jail, control.OneLine(note)), true)
			}
			return exitDone, nil
		}
	}
	env.warn(control.OneLine(fmt.Sprintf("fail2ban %s: %v", event, err)), false)
	return exitUsage, nil
}

// invalid reports whether the agent refused the call for good.
func invalid(err error) bool {
	var refused *control.Error
	return errors.As(err, &refused) && (refused.Code == control.CodeInvalid || refused.Code == control.CodeTooLarge)
}

// flags are fail2ban's tags as it fills them in.
type flags struct {
	set                                    *flag.FlagSet
	jail, ip, time, bantime, failures, rep string
	socket, spool                          string
}

// Flags are the names of the flags with their help.
var Flags = []struct{ Name, Usage string }{
	{"jail", "`NAME` of the jail, fail2ban's <name>"},
	{"ip", "`ADDRESS`, fail2ban's <ip>"},
	{"time", "when the offence was, `UNIX` seconds, fail2ban's <time>"},
	{"bantime", "`SECONDS` from then, -1 without end, fail2ban's <bantime>"},
	{"failures", "`N`, fail2ban's <failures>"},
	{"restored", "`0|1`, fail2ban's <restored>"},
	{"socket", "control socket of the agent, `PATH` (also BANMESH_SOCKET)"},
	{"spool", "where the call waits when no agent is reachable, `DIR` (also BANMESH_SPOOL); the spool of the socket's agent if not given"},
}

func newFlags(getenv func(string) string) *flags {
	h := &flags{set: flag.NewFlagSet("", flag.ContinueOnError)}
	h.set.SetOutput(io.Discard)
	into := map[string]*string{
		"jail": &h.jail, "ip": &h.ip, "time": &h.time, "bantime": &h.bantime, "failures": &h.failures, "restored": &h.rep,
		"socket": &h.socket, "spool": &h.spool,
	}
	for _, f := range Flags {
		h.set.StringVar(into[f.Name], f.Name, "", f.Usage)
	}
	if h.socket = getenv("BANMESH_SOCKET"); h.socket == "" {
		h.socket = control.DefaultSocket
	}
	h.spool = getenv("BANMESH_SPOOL")
	return h
}

// parse turns fail2ban's tags into a call with absolute times.
func (h *flags) parse(event control.HookEvent, args []string, now time.Time) (control.HookCall, error) {
	call := control.HookCall{Event: event, At: control.At(now)}
	if err := h.set.Parse(args); err != nil {
		return call, flagError(err)
	}
	if rest := h.set.Args(); len(rest) > 0 {
		return call, fmt.Errorf("unexpected argument %s", control.Show(rest[0]))
	}
	return h.call(call, now)
}

// flagError words what package flag found wrong: "flag provided but not defined: -x" and "flag needs an argument: -x".
func flagError(err error) error {
	what, name, ok := strings.Cut(err.Error(), ": -")
	switch {
	case ok && strings.HasPrefix(what, "flag provided"):
		return fmt.Errorf("unknown flag %s: --help lists the known ones", control.Show("--"+name))
	case ok:
		return fmt.Errorf("flag %s needs a value", control.Show("--"+name))
	}
	return errors.New(control.Show(err.Error()))
}

func (h *flags) call(call control.HookCall, now time.Time) (_ control.HookCall, err error) {
	fail := func(name string, err error) (control.HookCall, error) { return call, fmt.Errorf("--%s: %w", name, err) }
	if h.jail == "" {
		return call, errors.New("--jail is missing")
	}
	if call.Jail = h.jail; control.CheckJail(h.jail) != nil {
		return fail("jail", control.CheckJail(h.jail))
	}
	if call.Failures, err = control.ParseFailures(h.failures); err != nil {
		return fail("failures", err)
	}
	if call.Restored, err = control.ParseBinary(h.rep); err != nil {
		return fail("restored", err)
	}
	start, err := control.ParseSeconds(h.time)
	if err != nil {
		return fail("time", err)
	}
	length, err := control.ParseBanTime(h.bantime)
	if err != nil {
		return fail("bantime", err)
	}
	if !OfAddress(call.Event) {
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
	call.Start = control.At(start)
	unban := call.Event == control.HookUnban
	switch {
	case h.bantime == "" && !unban:
		return call, errors.New("--bantime is missing")
	case h.bantime == "" || start.IsZero() && unban:
		return call, nil
	case start.IsZero():
		start, call.Start = now, call.At
	}
	if length == control.Forever {
		call.Until = control.Never
	} else {
		call.Until = control.UntilAt(start.Add(length))
	}
	return call, nil
}

// deliver passes the call on; note is what is to be said of it although it went well.
func (h *flags) deliver(ctx context.Context, call control.HookCall, env Env) (note string, err error) {
	asking, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	reply, err := control.NewClient(h.socket).Fail2ban(asking, call)
	if err == nil {
		return reply.Note, nil
	}
	if invalid(err) {
		return "", err
	}
	// Also what the agent tried and failed at: fail2ban does not ask again, the spool does.
	kept := make(chan error, 1)
	go func() { kept <- h.keep(call, env) }()
	timer := time.NewTimer(Time - callTime)
	defer timer.Stop()
	select {
	case lost := <-kept:
		if errors.Is(lost, ErrElsewhere) {
			return "", lost
		}
		if lost != nil {
			return "", fmt.Errorf("lost: %w; %w", err, lost)
		}
		return "", nil
	case <-timer.C:
		return "", fmt.Errorf("perhaps lost: %w; the disk of the spool does not answer in time", err)
	}
}

// keep puts the call into the spool of the agent it was meant for: into the one in memory first. A process that writes to
// a disk that hangs does not end, and fail2ban waits for it.
func (h *flags) keep(call control.HookCall, env Env) error {
	e := spool.Entry{Time: env.Now(), Hook: &call}
	if h.spool != "" {
		return spool.New(h.spool).Put(e)
	}
	if quick, err := spool.QuickOf(h.socket); err == nil && quick.Put(e) == nil {
		return nil
	}
	s, err := env.SpoolOf(h.socket)
	if err != nil {
		return err
	}
	return s.Put(e)
}

// warn writes to stderr, which fail2ban shows at the level DEBUG only, and where nobody would hear of it otherwise to the
// machine's log. Not log/syslog: it has no deadline and blocks where the log's reader hangs.
func (env Env) warn(text string, log bool) {
	fmt.Fprintf(env.Stderr, "banmesh: %s\n", text)
	if !log {
		return
	}
	conn, err := net.DialTimeout("unixgram", env.Syslog, syslogTime)
	if err != nil {
		return // it has been said on stderr
	}
	defer conn.Close()
	const daemonWarning = 3<<3 | 4 // RFC 3164 §4.1.1
	conn.SetDeadline(time.Now().Add(syslogTime))
	fmt.Fprintf(conn, "<%d>%s banmesh[%d]: %s", daemonWarning, env.Now().Format(time.Stamp), os.Getpid(), text)
}
