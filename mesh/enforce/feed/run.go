package feed

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

// Run feeds the jail until ctx ends and then returns nil: a fail2ban that is down or refuses shows as a State, not as an error.
// What was fed stays.
func (f *Feeder) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-f.wake:
			timer.Reset(company)
			select {
			case <-ctx.Done():
				return nil
			case <-timer.C:
			}
		}
		timer.Reset(f.turn(ctx))
	}
}

// turn does what is due, with at most one call that bans and one that unbans, and returns when to come again.
func (f *Feeder) turn(ctx context.Context) time.Duration {
	if !f.cfg.Settled() {
		return settle
	}
	r := &f.run
	began := time.Now()
	if wait := r.pause.Sub(began); wait > 0 && !(r.retry > 0 && f.started()) {
		return wait
	}
	err := f.see(ctx)
	more := false
	if err == nil {
		more, err = f.bring(ctx)
	}
	if ctx.Err() != nil {
		return 0
	}
	if err != nil {
		f.failed(err)
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
func (f *Feeder) started() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.look
}

// see reads the jail if that is due.
func (f *Feeder) see(ctx context.Context) error {
	r := &f.run
	now := time.Now()
	if r.held != nil && !f.started() && now.Before(r.next) {
		return nil
	}
	f.mu.Lock()
	f.look = false
	f.mu.Unlock()
	if r.held == nil || !now.Before(r.shape) {
		shape, err := f.cfg.Client.Shape(ctx, f.cfg.Jail)
		if err == nil {
			err = misfit(shape)
		}
		if err != nil {
			return err
		}
		r.shape = now.Add(shapeEvery)
	}
	banned, err := f.cfg.Client.Banned(ctx, f.cfg.Jail)
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
	f.mu.Lock()
	f.status.Reconciled = f.cfg.Now()
	maps.DeleteFunc(f.lifted, func(_ netip.Prefix, at time.Time) bool { return f.cfg.Now().Sub(at) > echoLife })
	f.mu.Unlock()
	return nil
}

// bring takes the jail one step closer to what it should hold; more says that further steps are needed.
func (f *Feeder) bring(ctx context.Context) (more bool, err error) {
	r := &f.run
	began := time.Now()
	frozen, by := f.cfg.Set.Frozen()
	want := f.choose(frozen, r.held)
	r.pause = time.Now().Add(share * time.Since(began))
	if err := f.book.keep(ctx, func(p netip.Prefix) bool { return want.kept[p] }); err != nil {
		f.log.Warn("forget what was unbanned by hand and is over", "error", err)
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
	more = len(add) > r.batch || len(del) > r.batch
	if err := f.lift(ctx, del[:min(len(del), r.batch)]); err != nil {
		return false, err
	}
	if err := f.ban(ctx, add[:min(len(add), r.batch)]); err != nil {
		return false, err
	}
	f.note(want, frozen, by)
	return more, nil
}

func (f *Feeder) ban(ctx context.Context, prefixes []netip.Prefix) error {
	err := f.call(prefixes, func() error { return f.cfg.Client.Ban(ctx, f.cfg.Jail, prefixes) })
	if err != nil {
		return err
	}
	for _, p := range prefixes {
		f.run.held[p] = true
	}
	return nil
}

func (f *Feeder) lift(ctx context.Context, prefixes []netip.Prefix) error {
	f.mu.Lock()
	for _, p := range prefixes {
		f.lifted[p] = f.cfg.Now() // before its hook comes
	}
	f.mu.Unlock()
	err := f.call(prefixes, func() error { return f.cfg.Client.Unban(ctx, f.cfg.Jail, prefixes) })
	if err != nil {
		return err
	}
	for _, p := range prefixes {
		delete(f.run.held, p)
	}
	return nil
}

// call makes one change and adjusts the batch to the time it took.
func (f *Feeder) call(prefixes []netip.Prefix, change func() error) error {
	if len(prefixes) == 0 {
		return nil
	}
	r := &f.run
	began := time.Now()
	if err := change(); err != nil {
		return err
	}
	took := time.Since(began)
	switch {
	case took > slow:
		r.batch = max(r.batch/2, batchLeast)
	case took < quick && len(prefixes) == r.batch:
		r.batch = min(2*r.batch, batchMost)
	}
	if until := time.Now().Add(took); until.After(r.pause) {
		r.pause = until
	}
	f.mu.Lock()
	f.status.Batches++
	f.mu.Unlock()
	return nil
}

// note updates the status after a successful turn.
func (f *Feeder) note(want selection, frozen bool, by string) {
	state, detail := enforce.On, ""
	switch {
	case frozen:
		state, detail = enforce.Frozen, "frozen by "+by+": nothing is added to fail2ban's jail "+f.cfg.Jail
	case want.total > len(want.bans):
		state = enforce.Limited
		detail = fmt.Sprintf("peers have %d bans, the newest %d of them are in fail2ban's jail %s (enforce.limit): enforce.driver nftables takes all", want.total, len(want.bans), f.cfg.Jail)
	}
	f.mu.Lock()
	before := f.status.State
	f.status.Elements, f.status.Detail = len(f.run.held), detail
	f.status.State = state
	f.mu.Unlock()
	if before != state {
		f.log.Info("feeding fail2ban", "state", state, "bans", len(f.run.held), "detail", detail)
	}
}

// failed records that fail2ban refused, and leaves it alone for a while.
func (f *Feeder) failed(err error) {
	r := &f.run
	r.held = nil // the next reading shows what came of it
	r.retry = min(max(2*r.retry, retryFirst), retryMost)
	r.pause = time.Now().Add(r.retry)
	if errors.Is(err, fail2ban.ErrTimeout) {
		r.batch = batchLeast
	}
	detail := advice(f.cfg.Jail, err)
	f.mu.Lock()
	level := slog.LevelDebug
	if f.status.State != enforce.Failing || f.status.Detail != detail {
		level = slog.LevelWarn
	}
	f.status.Failures++
	f.status.LastError, f.status.Detail = err.Error(), detail
	f.status.State = enforce.Failing
	f.mu.Unlock()
	f.log.Log(context.Background(), level, "fail2ban is not fed", "error", err, "again_in", r.retry)
}
