// Package hook is the program behind fail2ban's action: it passes each call of a jail to the agent.
//
// fail2ban starts a process for each ban and waits for it with all its jails. So this package is small to load, and it always
// answers in time, whatever the agent and the disk do. If the agent does not take the call within callTime, the call goes
// into a spool.
//
// A run has one goroutine for each spool that it tries, and leaves it behind if the disk hangs. The spool on the disk is
// written by a process of its own, because nothing ends a process whose write hangs. There are no locks.
package hook

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/spool"
)

// spoolTime bounds a run of the hook, without the start of its process.
const spoolTime = 800 * time.Millisecond

// callTime is the agent's share of it, and the rest is for the spools. diskTime is how long to wait for the first spool
// before the call also goes to the other one.
const (
	callTime = 500 * time.Millisecond
	diskTime = 150 * time.Millisecond
)

// keepAt is set for the process that Env.Again starts: when the call was made, in nanoseconds since 1970.
const keepAt = "BANMESH_HOOK_KEEP"

// Syslog is where the machine's log takes messages (syslog(3), systemd-journald(8)).
const Syslog = "/dev/log"

// syslogTime bounds sending a message to it.
const syslogTime = 50 * time.Millisecond

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// Events lists the hooks and the purpose of each.
var Events = []struct {
	Event control.HookEvent
	Usage string
}{
	{control.HookStart, "a jail starts (actionstart)"},
	{control.HookStop, "a jail stops (actionstop)"},
	{control.HookFlush, "a jail drops all its bans (actionflush)"},
	{control.HookBan, "an address is banned (actionban)"},
	{control.HookProlong, "a ban is prolonged (actionprolong)"},
	{control.HookUnban, "an address is unbanned (actionunban)"},
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

// OfAddress reports whether the hook is about an address rather than a whole jail.
func OfAddress(e control.HookEvent) bool {
	return e == control.HookBan || e == control.HookProlong || e == control.HookUnban
}

// ErrElsewhere is returned by Env.SpoolOf if only another program can find the spool, and then at once by Run: the call was
// neither taken nor kept.
var ErrElsewhere = errors.New("the spool has to be found from the configuration")

// Env is the environment of one run.
type Env struct {
	Getenv func(string) string
	Stderr io.Writer
	Now    func() time.Time
	Syslog string // the socket of the machine's log
	// SpoolOf finds the spool of a socket's agent.
	SpoolOf func(socket string) (*spool.Spool, error)
	// Again runs this command line again in a process that writes to the disk and can be left behind: nothing ends a process
	// whose write hangs, and fail2ban waits for the one that it started. Nil writes in this process, for a program that is slow
	// to start.
	Again func() *exec.Cmd
}

// Again is an Env.Again for this program.
func Again() *exec.Cmd {
	self, err := os.Executable()
	return &exec.Cmd{Path: self, Args: os.Args, Err: err}
}

// Run runs the command line `fail2ban EVENT --jail=NAME …`, without the word fail2ban. It returns the exit code. That is 0
// unless the call can never be taken, because fail2ban would repeat a failed call and hold up its jails meanwhile. The error is
// ErrElsewhere or nil.
func Run(ctx context.Context, args []string, env Env) (int, error) {
	event := control.HookEvent(args[0])
	h := newFlags(env.Getenv)
	if at, err := strconv.ParseInt(env.Getenv(keepAt), 10, 64); err == nil {
		return h.keepOnly(event, args[1:], time.Unix(0, at), env)
	}
	made := env.Now()
	call, err := h.parse(event, args[1:], made)
	if err == nil {
		var note string
		if note, err = h.deliver(ctx, spool.Entry{Time: made, Hook: &call}, env); errors.Is(err, ErrElsewhere) {
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

// flags holds the values of fail2ban's tags.
type flags struct {
	set                                    *flag.FlagSet
	jail, ip, time, bantime, failures, rep string
	socket, spool                          string
	first, all                             time.Duration // how long to wait for the first spool, and for both
}

// Flags lists the flags and their help.
var Flags = []struct{ Name, Usage string }{
	{"jail", "`NAME` of the jail, fail2ban's <name>"},
	{"ip", "`ADDRESS`, fail2ban's <ip>"},
	{"time", "when the offence was, `UNIX` seconds, fail2ban's <time>"},
	{"bantime", "`SECONDS` from then, -1 without end, fail2ban's <bantime>"},
	{"failures", "`N`, fail2ban's <failures>"},
	{"restored", "`0|1`, fail2ban's <restored>"},
	{"socket", "control socket of the agent, `PATH` (also BANMESH_SOCKET)"},
	{"spool", "where the call waits if no agent is reachable, `DIR` (also BANMESH_SPOOL); default the spool of the socket's agent"},
}

// newFlags takes every value as text: what is wrong with one is told in the same words as by the agent.
func newFlags(getenv func(string) string) *flags {
	h := &flags{set: flag.NewFlagSet("", flag.ContinueOnError), first: diskTime, all: spoolTime - callTime}
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

// flagError rewords errors of package flag: "flag provided but not defined: -x" and "flag needs an argument: -x".
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

// call turns fail2ban's tags into a call. Start and end are absolute from here on, since the call may wait in
// the spool; a ban without a time began now.
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
		// fail2ban passes this for 192.0.2.1/0.
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

// deliver passes on the call; note is what to report although it succeeded.
func (h *flags) deliver(ctx context.Context, e spool.Entry, env Env) (note string, err error) {
	asking, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	reply, err := control.NewClient(h.socket).Fail2ban(asking, *e.Hook)
	if err == nil {
		return reply.Note, nil
	}
	if invalid(err) {
		return "", err
	}
	// Keep also what the agent tried without success: fail2ban does not ask again, but the spool does.
	runs := !control.NoneRuns(err)
	switch lost := h.keep(e, env, runs); {
	case errors.Is(lost, ErrElsewhere):
		return "", lost
	case errors.Is(lost, errSlow):
		return "", fmt.Errorf("perhaps lost: %w; %w", err, lost)
	case lost != nil:
		return "", fmt.Errorf("lost: %w; %w", err, lost)
	}
	return "", nil
}

var errSlow = errors.New("the disk of the spool does not answer in time")

// keep puts the call into a spool of the agent that it is for. If that agent runs but has not taken the call, its disk
// usually hangs, so the spool in memory goes first. Otherwise the one on the disk does, because nobody repeats an unban after
// a reboot. The other spool is used if the first fails or does not answer.
func (h *flags) keep(e spool.Entry, env Env, runs bool) error {
	type place struct {
		put    func() error
		onDisk bool
	}
	disk := place{func() error { return h.onDisk(e, env) }, true}
	memory := place{func() error {
		quick, err := spool.QuickOf(h.socket)
		if err != nil {
			return err
		}
		return quick.Put(e)
	}, false}
	places := []place{disk, memory}
	switch {
	case h.spool != "":
		places = []place{disk}
	case runs:
		places = []place{memory, disk}
	}
	type answer struct {
		err    error
		onDisk bool
	}
	answers := make(chan answer, len(places))
	begun, failed := 0, 0
	begin := func() {
		p := places[begun]
		begun++
		go func() { answers <- answer{p.put(), p.onDisk} }()
	}
	var lost error
	next, end := time.NewTimer(h.first), time.NewTimer(h.all)
	defer next.Stop()
	defer end.Stop()
	begin()
	for {
		select {
		case a := <-answers:
			if a.err == nil || errors.Is(a.err, ErrElsewhere) {
				return a.err
			}
			if a.onDisk { // a failure of the one in memory is of no use to anybody
				lost = a.err
			}
			if failed++; failed == len(places) {
				return lost
			}
			if begun < len(places) {
				begin()
			}
		case <-next.C:
			if begun < len(places) {
				begin()
			}
		case <-end.C:
			return errSlow
		}
	}
}

// onDisk puts the call into the spool on the disk, in a process of its own if possible.
func (h *flags) onDisk(e spool.Entry, env Env) error {
	if env.Again == nil {
		return h.put(e, env)
	}
	if h.spool == "" {
		if _, err := env.SpoolOf(h.socket); err != nil {
			return err
		}
	}
	again := env.Again()
	var said bytes.Buffer
	again.Stderr = &said
	again.Env = append(os.Environ(), fmt.Sprintf("%s=%d", keepAt, e.Time.UnixNano()))
	err := again.Run()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return errors.New(strings.TrimSpace(said.String()))
	}
	return err
}

// put keeps the call in the spool that was given, else in that of the socket's agent.
func (h *flags) put(e spool.Entry, env Env) error {
	if h.spool != "" {
		return spool.New(h.spool).Put(e)
	}
	s, err := env.SpoolOf(h.socket)
	if err != nil {
		return err
	}
	return s.Put(e)
}

// keepOnly is what the process started by Env.Again does.
func (h *flags) keepOnly(event control.HookEvent, args []string, at time.Time, env Env) (int, error) {
	call, err := h.parse(event, args, at)
	if err == nil {
		err = h.put(spool.Entry{Time: at, Hook: &call}, env)
	}
	if err != nil {
		fmt.Fprintln(env.Stderr, control.OneLine(err.Error()))
		return exitFailed, nil
	}
	return exitDone, nil
}

// warn writes to stderr, which fail2ban shows only at level DEBUG, and if log is set also to the machine's log. It does not
// use log/syslog, which has no deadline and blocks if the log's reader hangs.
func (env Env) warn(text string, log bool) {
	fmt.Fprintf(env.Stderr, "banmesh: %s\n", text)
	if !log {
		return
	}
	conn, err := net.DialTimeout("unixgram", env.Syslog, syslogTime)
	if err != nil {
		return // stderr has the message
	}
	defer conn.Close()
	const daemonWarning = 3<<3 | 4 // RFC 3164 §4.1.1
	conn.SetDeadline(time.Now().Add(syslogTime))
	fmt.Fprintf(conn, "<%d>%s banmesh[%d]: %s", daemonWarning, env.Now().Format(time.Stamp), os.Getpid(), text)
}
