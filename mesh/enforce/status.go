package enforce

import (
	"context"
	"errors"
	"os"
	"time"
)

// Status is what enforcement on this router is doing.
type Status struct {
	Driver     string        // none, nftables or fail2ban
	State      State         // what it does now
	Detail     string        // in plain words: why, and what to do about it; "" while all is well
	Caveat     string        // what enforcement on this router cannot promise; "" if there is nothing to say
	Elements   int           // what is on the router: ranges of addresses, or bans
	Behind     int           // how many changes the router has yet to take, or Unknown
	BehindFor  time.Duration // for how long the oldest of them has waited
	Batches    uint64        // changes that the router has taken, since the start
	Dropped    Drops         // as the router counts, since it began to drop; some seconds old
	Failures   uint64        // changes that the router refused, since the start
	LastError  string        // of the last refused one; "" if there was none
	Reconciled time.Time     // when the router was last compared with the set; zero: not yet
}

// Unknown means that it is not known how far the router is behind, because it cannot be read.
const Unknown = -1

// State is what enforcement is doing.
type State string

// The states. The first is that of a router where it is not configured.
const (
	Off     State = "off"
	Waiting State = "waiting" // for the first exchange with the peers
	On      State = "on"
	Frozen  State = "frozen"  // nothing is added
	Failing State = "failing" // the router refuses; it is retried
	Limited State = "limited" // more bans than may be enforced
)

// Status returns what the Enforcer is doing.
func (e *Enforcer) Status() Status {
	n, since := e.queue.waiting()
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.status
	if since.IsZero() || !e.since.IsZero() && e.since.Before(since) {
		since = e.since
	}
	if s.Behind != Unknown {
		s.Behind += n
	}
	if s.Behind != 0 && !since.IsZero() {
		s.BehindFor = max(e.cfg.Now().Sub(since), 0)
	}
	return s
}

// enter changes the state and reports whether that is news. The caller holds mu.
func (e *Enforcer) enter(s State, detail string) bool {
	news := e.status.State != s || e.status.Detail != detail
	e.status.State, e.status.Detail = s, detail
	return news
}

// succeeded records that the router has taken everything that was due.
func (w *worker) succeeded() {
	state, detail := On, ""
	if _, by := w.cfg.Set.Frozen(); w.frozen {
		state, detail = Frozen, "frozen by "+by+": nothing is added; lifts and allows are followed"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &w.status
	s.Elements, s.Batches = w.router.held[v4].n+w.router.held[v6].n, w.router.batches
	w.behind(w.todo.len())
	if !w.ready {
		return // the first comparison since the start or the last error is not done yet
	}
	w.retry = retryFirst
	if w.job == nil && w.todoJob == nil && !w.all && !w.read {
		s.Reconciled = w.cfg.Now()
	}
	if w.enter(state, detail) {
		w.log.Info("enforcement is "+string(state), "elements", s.Elements)
	}
}

// behind records how much the router has yet to take. The caller holds mu.
func (w *worker) behind(n int) {
	switch {
	case n == 0 && w.ready:
		w.owed = time.Time{}
	case w.owed.IsZero():
		w.owed = w.cfg.Now()
	}
	if !w.ready && n == 0 {
		n = Unknown
	}
	w.status.Behind, w.since = n, w.owed
}

// failed records an error and returns how long to wait before the next attempt.
func (w *worker) failed(err error) time.Duration {
	w.abandon()
	w.all, w.read, w.layout, w.ready = true, true, true, false
	if _, _, _, since := w.queue.take(); w.owed.IsZero() { // what is missing includes what was in the queue
		w.owed = since
	}
	missing := w.missing()
	wait := w.retry
	w.retry = min(2*w.retry, retryLast)
	if errors.Is(err, os.ErrPermission) { // an operator fixes this, usually by restarting the agent
		wait = retryLast
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.behind(missing)
	w.status.Failures++
	w.status.LastError = err.Error()
	if w.enter(Failing, "bans do not take effect on this router: "+err.Error()) {
		w.log.Warn("bans are not enforced on this router; tried again", "error", err)
	}
	return wait
}

// missing counts what the router would have to take, as far as its content is known.
func (w *worker) missing() int {
	if !w.router.known {
		return 0
	}
	r := <-w.compareJob().done
	b := batch{r.del, r.add}
	return b.len()
}

// count reads how many packets were dropped.
func (w *worker) count(ctx context.Context) {
	w.counted = time.Now()
	n, err := w.cfg.Driver.Dropped(ctx)
	if err != nil {
		w.log.Debug("count the dropped packets", "error", err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status.Dropped = n
}
