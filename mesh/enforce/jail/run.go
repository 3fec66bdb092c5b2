package jail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"time"

	"banmesh/mesh/enforce"
	"banmesh/mesh/fail2ban"
)

const (
	// company is how long the first change waits for others. After that, turns are gap apart, so that a stream of bans does not
	// cost a process each.
	company = 200 * time.Millisecond
	gap     = 2 * time.Second

	// share bounds the time spent on choosing from a very large set: at most one part in share.
	share = 20

	// settle is how often Run checks whether the set is complete.
	settle = 500 * time.Millisecond

	// lookEvery is how often the jail is compared with the set. A jail that differs is read again after lookAgain: fail2ban
	// repeats its bans one by one after a start.
	lookEvery = time.Minute
	lookAgain = 10 * time.Second

	// shapeEvery is how often the jail's configuration is checked.
	shapeEvery = 10 * time.Minute

	// fail2ban does nothing else while it handles one call. So a call gets as many prefixes as take it between quick and slow,
	// and the pause after it is as long as the call took.
	batchFirst, batchLeast, batchMost = 25, 10, 200
	quick, slow                       = 400 * time.Millisecond, 2 * time.Second

	// After a failure fail2ban is left alone for a time that doubles with each further one.
	retryFirst, retryMost = 2 * time.Second, time.Minute

	// echoLife is how late an unban hook may come: it may have waited in the spool.
	echoLife = time.Hour
)

// runner is what Run remembers.
type runner struct {
	held  map[netip.Prefix]bool // what the jail holds; nil: unknown
	next  time.Time             // when to read the jail next
	shape time.Time             // when to check its configuration next
	pause time.Time             // no call before then
	retry time.Duration         // the last pause after a failure
	batch int                   // prefixes of the next call
}

// Run fills the jail until ctx ends and then returns nil: a fail2ban that is down or refuses shows as a State, not as an error.
// What was fed stays.
func (j *Enforcer) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-j.wake:
			timer.Reset(company)
			select {
			case <-ctx.Done():
				return nil
			case <-timer.C:
			}
		}
		timer.Reset(j.turn(ctx))
	}
}

// turn does what is due, with at most one call that bans and one that unbans, and returns when to come again.
func (j *Enforcer) turn(ctx context.Context) time.Duration {
	if !j.cfg.Settled() {
		return settle
	}
	r := &j.run
	began := time.Now()
	if wait := r.pause.Sub(began); wait > 0 && !(r.retry > 0 && j.started()) {
		return wait
	}
	err := j.see(ctx)
	more := false
	if err == nil {
		more, err = j.bring(ctx)
	}
	if ctx.Err() != nil {
		return 0
	}
	if err != nil {
		j.failed(err)
		return time.Until(r.pause)
	}
	r.retry = 0
	if more {
		return time.Until(r.pause)
	}
	if next := began.Add(gap); next.After(r.pause) {
		r.pause = next
	}
	return max(time.Until(r.next), time.Until(r.pause))
}

// started reports whether the jail has started since it was last looked at.
func (j *Enforcer) started() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.look
}

// see reads the jail if that is due.
func (j *Enforcer) see(ctx context.Context) error {
	r := &j.run
	now := time.Now()
	if r.held != nil && !j.started() && now.Before(r.next) {
		return nil
	}
	j.mu.Lock()
	j.look = false
	j.mu.Unlock()
	if r.held == nil || !now.Before(r.shape) {
		shape, err := j.cfg.Client.Shape(ctx, j.cfg.Jail)
		if err == nil {
			err = misfit(shape)
		}
		if err != nil {
			return err
		}
		r.shape = now.Add(shapeEvery)
	}
	banned, err := j.cfg.Client.Banned(ctx, j.cfg.Jail)
	if err != nil {
		return err
	}
	held := make(map[netip.Prefix]bool, len(banned))
	for _, b := range banned {
		held[b.Prefix] = true
	}
	r.next = now.Add(lookEvery)
	if !maps.Equal(held, r.held) {
		r.next = now.Add(lookAgain)
	}
	r.held = held
	j.mu.Lock()
	j.status.Reconciled = j.cfg.Now()
	maps.DeleteFunc(j.lifted, func(_ netip.Prefix, at time.Time) bool { return j.cfg.Now().Sub(at) > echoLife })
	j.mu.Unlock()
	return nil
}

// bring takes the jail one step closer to what it should hold; more says that further steps are needed.
func (j *Enforcer) bring(ctx context.Context) (more bool, err error) {
	r := &j.run
	began := time.Now()
	frozen, by := j.cfg.Set.Frozen()
	want := j.choose(frozen, r.held)
	r.pause = time.Now().Add(share * time.Since(began))
	if err := j.book.keep(ctx, func(p netip.Prefix) bool { return want.kept[p] }); err != nil {
		j.log.Warn("forget what was unbanned by hand and is over", "error", err)
	}

	wanted := make(map[netip.Prefix]bool, len(want.bans))
	var add, del []netip.Prefix
	for _, b := range want.bans {
		wanted[b.prefix] = true
		if !r.held[b.prefix] && len(add) <= r.batch {
			add = append(add, b.prefix)
		}
	}
	for p := range r.held {
		if !wanted[p] && len(del) <= r.batch {
			del = append(del, p)
		}
	}
	// One more than fits was collected on purpose: it shows that another turn is needed.
	more = len(add) > r.batch || len(del) > r.batch
	// Lifts first: somebody waits to get through, and they make room within the limit.
	if err := j.lift(ctx, del[:min(len(del), r.batch)]); err != nil {
		return false, err
	}
	if err := j.ban(ctx, add[:min(len(add), r.batch)]); err != nil {
		return false, err
	}
	j.note(want, frozen, by)
	return more, nil
}

// ban notes what is held only after fail2ban has answered: after an error the jail is read.
func (j *Enforcer) ban(ctx context.Context, prefixes []netip.Prefix) error {
	err := j.call(prefixes, func() error { return j.cfg.Client.Ban(ctx, j.cfg.Jail, prefixes) })
	if err != nil {
		return err
	}
	for _, p := range prefixes {
		j.run.held[p] = true
	}
	return nil
}

// lift notes its prefixes before the call, so that the unban hook which it causes is not taken for an
// operator's unban.
func (j *Enforcer) lift(ctx context.Context, prefixes []netip.Prefix) error {
	j.mu.Lock()
	for _, p := range prefixes {
		// The hook may come while the call below is still under way.
		j.lifted[p] = j.cfg.Now()
	}
	j.mu.Unlock()
	err := j.call(prefixes, func() error { return j.cfg.Client.Unban(ctx, j.cfg.Jail, prefixes) })
	if err != nil {
		return err
	}
	for _, p := range prefixes {
		delete(j.run.held, p)
	}
	return nil
}

// call makes one change and adjusts the batch to the time it took.
func (j *Enforcer) call(prefixes []netip.Prefix, change func() error) error {
	if len(prefixes) == 0 {
		return nil
	}
	r := &j.run
	began := time.Now()
	if err := change(); err != nil {
		return err
	}
	took := time.Since(began)
	switch {
	// fail2ban's own work waits behind a call that takes that long.
	case took > slow:
		r.batch = max(r.batch/2, batchLeast)
	case took < quick && len(prefixes) == r.batch:
		r.batch = min(2*r.batch, batchMost)
	}
	if until := time.Now().Add(took); until.After(r.pause) {
		r.pause = until
	}
	j.mu.Lock()
	j.status.Batches++
	j.mu.Unlock()
	return nil
}

// note updates the status after a successful turn.
func (j *Enforcer) note(want selection, frozen bool, by string) {
	state, detail := enforce.On, ""
	switch {
	case frozen:
		state, detail = enforce.Frozen, "frozen by "+by+": nothing is added to fail2ban's jail "+j.cfg.Jail
	case want.total > len(want.bans):
		state = enforce.Limited
		detail = fmt.Sprintf("peers have %d bans, the newest %d of them are in fail2ban's jail %s (enforce.limit): enforce.driver nftables takes all", want.total, len(want.bans), j.cfg.Jail)
	}
	j.mu.Lock()
	before := j.status.State
	j.status.Elements, j.status.Detail = len(j.run.held), detail
	j.status.State = state
	j.mu.Unlock()
	if before != state {
		j.log.Info("feeding fail2ban", "state", state, "bans", len(j.run.held), "detail", detail)
	}
}

// failed records that fail2ban refused, and leaves it alone for a while.
func (j *Enforcer) failed(err error) {
	r := &j.run
	r.held = nil // the next reading shows what came of it
	r.retry = min(max(2*r.retry, retryFirst), retryMost)
	r.pause = time.Now().Add(r.retry)
	if errors.Is(err, fail2ban.ErrTimeout) {
		// It answered nothing in time; a smaller call may get through.
		r.batch = batchLeast
	}
	detail := advice(j.cfg.Jail, err)
	j.mu.Lock()
	level := slog.LevelDebug
	if j.status.State != enforce.Failing || j.status.Detail != detail {
		level = slog.LevelWarn
	}
	j.status.Failures++
	j.status.LastError, j.status.Detail = err.Error(), detail
	j.status.State = enforce.Failing
	j.mu.Unlock()
	j.log.Log(context.Background(), level, "fail2ban is not fed", "error", err, "again_in", r.retry)
}
