package mesh

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
	"banmesh/mesh/leader"
)

const (
	// alertTime bounds the operator's command; alertGrace is what its children
	// have to let go of its output.
	alertTime  = 30 * time.Second
	alertGrace = time.Second

	// alertCalm is how long trouble of which the command was told before the
	// agent's start must be away to be over.
	alertCalm = time.Minute

	// alertOutput is how much of what the command prints is logged.
	alertOutput = 4 << 10

	// alertQueue is how many events wait while a command runs; what does not
	// fit is told with the next turn.
	alertQueue = 64
)

// Alert events, as the operator's command gets them on its standard input: one
// JSON object and a newline.
type alertEvent struct {
	Time   control.Time `json:"time"`
	Router string       `json:"router"`         // that runs the command
	Alert  string       `json:"alert"`          // commit, held, member, store or sync
	Name   string       `json:"name,omitempty"` // of the member
	State  string       `json:"state"`          // begins or ends
	Since  control.Time `json:"since"`          // when the trouble began
	Detail string       `json:"detail"`         // in plain words
}

// trouble is one thing that is wrong now.
type trouble struct {
	alert, name, detail string
}

func (t trouble) key() string { return t.alert + " " + t.name }

// alerts watches for trouble that lasts, and has the operator's command told.
// look is called each second by one goroutine; the command runs in another.
type alerts struct {
	router  string
	after   time.Duration
	command func(ctx context.Context, event []byte) error
	log     *slog.Logger

	held  map[string]*lasting
	queue chan alertEvent
	book  alertBook // what the command was told, over restarts; run's goroutine writes it
}

// lasting is trouble that was there when last looked.
type lasting struct {
	trouble
	since   time.Time
	told    bool
	earlier bool      // told before the agent's start, and not seen since then
	missed  time.Time // an earlier one: since when it has not been seen
}

func newAlerts(router string, cfg config.Alert, memory memory, run func(context.Context, string, []byte, *slog.Logger) error, log *slog.Logger) *alerts {
	a := &alerts{
		router: router, after: time.Duration(cfg.After), log: log,
		command: func(ctx context.Context, event []byte) error { return run(ctx, cfg.Command, event, log) },
		held:    make(map[string]*lasting), queue: make(chan alertEvent, alertQueue),
		book: loadAlertBook(memory),
	}
	for key, e := range a.book.told {
		a.held[key] = &lasting{trouble: trouble{e.Alert, e.Name, e.Detail}, since: e.Since.Time(), told: true, earlier: true}
	}
	return a
}

// look takes what is wrong at the time now. unclear says of trouble that is not
// in the list whether it may still be there: then it is kept as it was.
func (a *alerts) look(now time.Time, wrong []trouble, unclear func(trouble) bool) {
	there := make(map[string]bool, len(wrong))
	for _, t := range wrong {
		key := t.key()
		there[key] = true
		l := a.held[key]
		if l == nil {
			l = &lasting{since: now}
			a.held[key] = l
		}
		l.trouble, l.earlier = t, false
		if !l.told && now.Sub(l.since) >= a.after {
			l.told = a.tell(now, l, "begins")
		}
	}
	for key, l := range a.held {
		switch {
		case there[key] || unclear(l.trouble) || l.earlier && !l.over(now):
		case !l.told || a.tell(now, l, "ends"):
			delete(a.held, key)
		}
	}
}

// over reports whether trouble from before the agent's start has stayed away for
// long enough: right after a start little is known of the commits and of what the
// others hold. A member that is seen is there.
func (l *lasting) over(now time.Time) bool {
	if l.alert == alertMember {
		return true
	}
	if l.missed.IsZero() {
		l.missed = now
	}
	return now.Sub(l.missed) >= alertCalm
}

// tell queues an event; false where the queue is full: it is tried again.
func (a *alerts) tell(now time.Time, l *lasting, state string) bool {
	e := alertEvent{
		Time: control.At(now), Router: a.router, Alert: l.alert, Name: l.name, State: state, Since: control.At(l.since), Detail: l.detail,
	}
	select {
	case a.queue <- e:
		return true
	default:
		return false
	}
}

// run runs the command for one event after the other.
func (a *alerts) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-a.queue:
			b, err := json.Marshal(e)
			if err == nil {
				within, cancel := context.WithTimeout(ctx, alertTime)
				err = a.command(within, append(b, '\n'))
				cancel()
			}
			if ctx.Err() != nil {
				return nil // told again after the start
			}
			if err != nil {
				a.log.Error("alert.command failed", "alert", e.Alert, "name", e.Name, "state", e.State, "error", err)
			}
			if err := a.book.note(ctx, e); err != nil {
				a.log.Warn("remember what alert.command was told", "error", err)
			}
		}
	}
}

// runAlert runs the command in a process group of its own, so that all it
// started ends with it when its time is over.
func runAlert(ctx context.Context, command string, event []byte, log *slog.Logger) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = alertGrace
	out := &firstBytes{left: alertOutput}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(event), out, out
	err := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left in the background
	}
	said := strings.Join(strings.Fields(out.String()), " ")
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("not done after %v, killed; it said %q", alertTime, said)
	case errors.Is(err, exec.ErrWaitDelay):
		return nil // done, with children that kept its output open
	case err != nil:
		return fmt.Errorf("%w; it said %q", err, said)
	}
	if said != "" {
		log.Info("alert.command", "said", said)
	}
	return nil
}

// firstBytes keeps the first bytes written to it and takes the rest, so that
// who writes is never stopped by a full pipe.
type firstBytes struct {
	mu   sync.Mutex
	kept bytes.Buffer
	left int
}

func (f *firstBytes) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := min(len(p), f.left)
	f.left -= n
	f.kept.Write(p[:n])
	return len(p), nil
}

func (f *firstBytes) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.kept.String()
}

// The kinds of trouble.
const (
	alertCommit = "commit"
	alertMember = "member"
	alertSync   = "sync"
	alertHeld   = "held"
	alertStore  = "store"
)

// watchTrouble is one look of the alerts; nothing where no command is set.
func (a *Agent) watchTrouble() {
	if a.alerts == nil {
		return
	}
	members := a.mesh.Members()
	commits := a.commitStatus()
	wrong := troubles(members, a.mesh.InSync(), commits, a.elector.Status(), a.committer != nil)
	if a.stall != nil && !slices.ContainsFunc(wrong, func(t trouble) bool { return t.alert == alertCommit }) {
		if text := a.stall.warning(); text != "" {
			wrong = append(wrong, trouble{alertCommit, "", text})
		}
	}
	if err := a.store.Health(); err != nil {
		wrong = append(wrong, trouble{alertStore, "", fmt.Sprintf("the store is not written: %v", err)})
	}
	if text := a.heldWarning(); text != "" {
		wrong = append(wrong, trouble{alertHeld, a.cfg.Name, text})
	}
	a.alerts.look(time.Now(), wrong, func(t trouble) bool {
		switch t.alert {
		case alertCommit:
			return commits.State == "committing" // what comes of it will tell
		case alertMember:
			// One that is gone from the list was not heard of: only a live one, or
			// one that said it left, is no trouble any more.
			for _, m := range members {
				if m.Name == t.name {
					return false
				}
			}
			return true
		}
		return false
	})
}

// troubles lists what is wrong now. It uses the machine's own time nowhere: for
// how long it has been so is the alerts' to say.
func troubles(members []gossip.Member, inSync bool, c control.CommitStatus, lead leader.Status, mayCommit bool) []trouble {
	var out []trouble
	alive := 0
	for _, m := range members {
		switch m.State {
		case gossip.Alive:
			alive++
		case gossip.Failed:
			out = append(out, trouble{alertMember, m.Name, fmt.Sprintf("no answer from %s (%s): its router gets no bans until it is back", m.Name, m.Addr)})
		}
	}
	if !inSync && alive > 1 {
		out = append(out, trouble{alertSync, "", "the agents do not agree on the bans: `banmesh members` shows which; check that TCP and UDP are open both ways"})
	}
	if c.Held > 0 {
		out = append(out, trouble{alertHeld, "", fmt.Sprintf("%d changes at the conductor are held until an operator confirms them: look at `banmesh diff`, then `banmesh commit --force`", c.Held)})
	}
	switch {
	case mayCommit && lead.Leader == "":
		out = append(out, trouble{alertCommit, "", "no router leads, so nothing is committed: `banmesh status` says why"})
	case c.State == "failing", c.State == "waiting", c.LastError != nil && c.State != "committing" && c.State != "off":
		detail := "commits fail"
		if c.State == "waiting" {
			detail = "commits wait"
		}
		if c.LastError != nil {
			detail += ": " + *c.LastError
		} else if c.Detail != "" {
			detail += ": " + c.Detail
		}
		out = append(out, trouble{alertCommit, "", detail})
	}
	return out
}
