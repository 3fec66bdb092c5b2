// Package alert watches for trouble that lasts and has the operator's command told when
// it begins and when it ends. What the command was told outlives the agent.
//
// Once a second the agent hands Look the facts of the moment. Look turns them into a list of what is wrong, and notes since
// when each has been so; what has lasted long enough goes into a queue. Run takes it from there: it runs the command for one
// event after the other and then writes down, beside the set, what was told. So no trouble is told twice or left without
// an end because the agent restarts. The command is the operator's and may do anything: it gets the event on its standard
// input and a limited time, and can delay nothing but the next event. Look never waits for it, and tells what does not fit
// the queue with a later look.
package alert

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"banmesh/mesh/control"
)

const (
	// calm is how long trouble of which the command was told before the agent's start
	// must be away to be over.
	calm = time.Minute

	// maxQueue is how many events wait while a command runs; what does not fit is told
	// with the next turn.
	maxQueue = 64
)

// event is what the operator's command gets on its standard input: one JSON object and
// a newline.
type event struct {
	Time   control.Time `json:"time"`
	Router string       `json:"router"`         // that runs the command
	Alert  string       `json:"alert"`          // commit, held, member, store or sync
	Name   string       `json:"name,omitempty"` // of the member
	State  string       `json:"state"`          // begins or ends
	Since  control.Time `json:"since"`          // when the trouble began
	Detail string       `json:"detail"`         // in plain words
}

// Watcher watches for trouble that lasts, and has the operator's command told.
// Look is called each second by one goroutine; the command runs in another.
type Watcher struct {
	router  string
	after   time.Duration
	command func(ctx context.Context, event []byte) error
	log     *slog.Logger

	held  map[string]*lasting
	queue chan event
	book  book // what the command was told, over restarts; only Run writes it
}

// lasting is trouble that was there when last looked.
type lasting struct {
	trouble
	since   time.Time
	told    bool
	earlier bool      // told before the agent's start, and not seen since then
	missed  time.Time // an earlier one: since when it has not been seen
}

// Config is what a Watcher needs.
type Config struct {
	Router string
	After  time.Duration // for how long something must be wrong
	Memory Memory
	// Command runs the operator's command with an event on its standard input.
	Command func(ctx context.Context, event []byte) error
	Logger  *slog.Logger
}

// New returns a Watcher that knows what the command was told by the agent's former run.
func New(c Config) *Watcher {
	w := &Watcher{
		router: c.Router, after: c.After, command: c.Command, log: c.Logger,
		held: make(map[string]*lasting), queue: make(chan event, maxQueue), book: loadBook(c.Memory),
	}
	for key, e := range w.book.told {
		w.held[key] = &lasting{trouble: trouble{e.Alert, e.Name, e.Detail}, since: e.Since.Time(), told: true, earlier: true}
	}
	return w
}

// Look takes what there is to see at the time now.
func (w *Watcher) Look(now time.Time, f Facts) { w.look(now, f.troubles(), f.unclear) }

// look takes what is wrong at the time now. unclear says of trouble that is not
// in the list whether it may still be there: then it is kept as it was.
func (w *Watcher) look(now time.Time, wrong []trouble, unclear func(trouble) bool) {
	there := make(map[string]bool, len(wrong))
	for _, t := range wrong {
		key := t.key()
		there[key] = true
		l := w.held[key]
		if l == nil {
			l = &lasting{since: now}
			w.held[key] = l
		}
		l.trouble, l.earlier = t, false
		if !l.told && now.Sub(l.since) >= w.after {
			l.told = w.tell(now, l, "begins")
		}
	}
	for key, l := range w.held {
		switch {
		// Still there, perhaps there, or not away for long enough.
		case there[key] || unclear(l.trouble) || l.earlier && !l.over(now):
		// What was never told needs no end. If the queue is full, the end is told with a later look.
		case !l.told || w.tell(now, l, "ends"):
			delete(w.held, key)
		}
	}
}

// over reports whether trouble from before the agent's start has stayed away for
// long enough: right after a start little is known of the commits and of what the
// others hold. A member that is seen is there.
func (l *lasting) over(now time.Time) bool {
	if l.alert == onMember {
		return true
	}
	if l.missed.IsZero() {
		l.missed = now
	}
	return now.Sub(l.missed) >= calm
}

// tell queues an event; false where the queue is full: it is tried again.
func (w *Watcher) tell(now time.Time, l *lasting, state string) bool {
	e := event{
		Time: control.At(now), Router: w.router, Alert: l.alert, Name: l.name, State: state, Since: control.At(l.since), Detail: l.detail,
	}
	select {
	case w.queue <- e:
		return true
	default:
		return false
	}
}

// Run runs the command for one event after the other, until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.queue:
			b, err := json.Marshal(e)
			if err == nil {
				bounded, cancel := context.WithTimeout(ctx, within)
				err = w.command(bounded, append(b, '\n'))
				cancel()
			}
			if ctx.Err() != nil {
				return nil // told again after the start
			}
			if err != nil {
				w.log.Error("alert.command failed", "alert", e.Alert, "name", e.Name, "state", e.State, "error", err)
			}
			if err := w.book.note(ctx, e); err != nil {
				w.log.Warn("remember what alert.command was told", "error", err)
			}
		}
	}
}
