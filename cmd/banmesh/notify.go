package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/mesh/control"
)

// supervisor is systemd, where it has started the agent with Type=notify (sd_notify(3)).
type supervisor struct {
	socket   string        // NOTIFY_SOCKET; "" where nobody listens
	watchdog time.Duration // WATCHDOG_USEC: what the unit's WatchdogSec says; 0 for none
	log      *slog.Logger
}

// newSupervisor takes the environment as sd_notify(3) and sd_watchdog_enabled(3) describe it.
func newSupervisor(getenv func(string) string, log *slog.Logger) *supervisor {
	s := &supervisor{socket: getenv("NOTIFY_SOCKET"), log: log}
	if usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 {
		s.watchdog = time.Duration(usec) * time.Microsecond
	}
	return s
}

const (
	// readyPause lies between two questions whether the agent answers yet.
	readyPause = 50 * time.Millisecond
	// quietPause lies between two words about the state, where no watchdog asks for more.
	quietPause = 30 * time.Second
)

// run says that the agent is ready once it answers on its socket, how it is from time to time, and that it stops when ctx
// ends. An agent that no longer answers, or whose disk does not, feeds no watchdog: systemd starts it anew.
func (s *supervisor) run(ctx context.Context, client *control.Client) {
	if s.socket == "" {
		return
	}
	pause := quietPause
	if s.watchdog > 0 {
		// The service manager counts from one word to the next, sd_watchdog_enabled(3). Between two lie a pause
		// and a question, which may take as long, so together two thirds of its time.
		pause = min(pause, s.watchdog/3)
	}
	ready := false
	for {
		asking, cancel := context.WithTimeout(ctx, pause)
		status, err := client.Status(asking)
		cancel()
		switch {
		case ctx.Err() != nil:
		case err == nil && status.Store != nil && status.Store.Silent:
			// Nobody tells a disk that hangs from a process that does: systemd does what the unit says.
			s.tell("STATUS=" + status.Store.Error)
		// Once: for systemd, what is ordered after the agent starts here.
		case err == nil && !ready:
			ready = true
			s.tell("READY=1", "WATCHDOG=1", statusLine(status))
		case err == nil:
			s.tell("WATCHDOG=1", statusLine(status))
		// Before its first answer the agent is still starting, which is not worth a line every 50 ms.
		case ready:
			s.log.Warn("the agent does not answer on its own socket", "error", err)
		}
		wait := pause
		if !ready {
			wait = readyPause
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			s.tell("STOPPING=1", "STATUS=leaving the mesh")
			return
		case <-timer.C:
		}
	}
}

// statusLine is what `systemctl status` shows.
func statusLine(s control.Status) string {
	line := fmt.Sprintf("STATUS=%s alive, %s", excerpt.Count(s.Members.Alive, "member", "members"), excerpt.Count(s.Bans.Live, "ban", "bans"))
	if n := len(s.Warnings); n > 0 {
		line += fmt.Sprintf(", %s: banmesh status", excerpt.Count(n, "warning", "warnings"))
	}
	return line
}

// tell sends assignments in one datagram. Nothing depends on its arrival.
func (s *supervisor) tell(assignments ...string) {
	name := s.socket
	if strings.HasPrefix(name, "@") {
		name = "\x00" + name[1:] // the abstract namespace, unix(7)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err == nil {
		// A manager that does not read must not hold up the agent's end.
		conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, err = conn.Write([]byte(strings.Join(assignments, "\n")))
		err = errors.Join(err, conn.Close())
	}
	if err != nil {
		s.log.Warn("systemd does not hear of the agent's state", "error", err)
	}
}
