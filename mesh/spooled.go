package mesh

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/control/server"
	"banmesh/mesh/spool"
)

// maxKept bounds the hooks of fail2ban whose callers have gone while the disk does
// not answer. Each caller has spooled its call by then, so beyond it none is lost.
const maxKept = 10_000

// waiting are calls that reached no agent in time, and those that this one holds
// although their callers have gone.
type waiting struct {
	spools Spools

	spooled atomic.Int64    // in spool, as of the last look: the disk may hang
	kept    chan struct{}   // one for each hook under way
	life    context.Context // of what outlives its caller
	end     context.CancelFunc
}

// openSpool makes the places in which calls wait, and says where they are.
func (a *Agent) openSpool() error {
	w := &a.waiting
	w.spools, w.kept = a.doors.Spools(a.cfg.SpoolDir(), a.cfg.Socket), make(chan struct{}, maxKept)
	w.life, w.end = context.WithCancel(context.Background())
	gid, err := server.Group(a.cfg.SocketGroup)
	if err != nil {
		return err
	}
	return w.spools.Prepare(gid)
}

// files are the two spools of an agent: one in its data directory and a quick one
// beside its socket, in memory.
type files struct {
	spool, quick *spool.Spool
	socket       string
}

func (f *files) Prepare(gid int) error {
	for _, s := range []*spool.Spool{f.spool, f.quick} {
		if err := s.Prepare(gid); err != nil {
			return err
		}
	}
	return f.spool.LeaveNote(f.socket)
}

func (f *files) Drain(ctx context.Context, apply func(context.Context, spool.Entry) error) (spool.Drained, error) {
	return spool.Drain(ctx, apply, f.quick, f.spool)
}

func (f *files) Quick() int {
	n, _ := f.quick.Len()
	return n
}

func (f *files) Len() (int, error) { return f.spool.Len() }

// calls counts what waits in the spools.
func (w *waiting) calls() int {
	return w.spools.Quick() + int(w.spooled.Load())
}

// chores does each second what may have to wait for the disk, apart from all that
// must not.
func (a *Agent) chores(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		a.drainFirst(ctx)
		if n, err := a.waiting.spools.Len(); err == nil {
			a.waiting.spooled.Store(int64(n))
		}
		if err := a.repeat.run(ctx, a.lift); err != nil && ctx.Err() == nil {
			a.log.Warn("repeat the unbans given before the first exchange", "error", err)
		}
	}
}

// drainFirst applies the calls that waited in the spools, so that they come
// before the one at hand.
func (a *Agent) drainFirst(ctx context.Context) {
	drained, err := a.waiting.spools.Drain(ctx, a.applySpooled)
	for _, aside := range drained.Aside {
		a.log.Error("spooled call refused", "error", aside)
	}
	for _, unread := range drained.Unread {
		a.log.Warn("spooled call not readable", "error", unread)
	}
	if err != nil && ctx.Err() == nil {
		a.log.Warn("the spool is not drained", "error", err)
	}
	if drained.Applied > 0 {
		a.log.Info("spooled calls applied", "calls", drained.Applied)
	}
}

func (a *Agent) applySpooled(ctx context.Context, e spool.Entry) error {
	var err error
	switch {
	case e.Ban != nil:
		_, err = a.ban(ctx, *e.Ban)
	case e.Unban != nil:
		_, err = a.unban(ctx, *e.Unban, *e.Unban)
	case e.Hook != nil:
		_, err = a.fail2ban.hook(ctx, *e.Hook)
	}
	var refused *control.Error
	if errors.As(err, &refused) && refused.Code != control.CodeUnavailable && refused.Code != control.CodeInternal {
		return fmt.Errorf("%w: %w", spool.ErrRefused, err)
	}
	return err
}

// Fail2ban gives a hook of the fail2ban action its meaning. fail2ban asks once, so
// the hook goes on when its caller has no more time: it is done when the disk
// answers, and doing it again from the spool changes nothing.
func (a *Agent) Fail2ban(ctx context.Context, c control.HookCall) (control.HookReply, error) {
	select {
	case a.waiting.kept <- struct{}{}:
	default:
		return control.HookReply{}, control.Errorf(control.CodeUnavailable, "%d calls of fail2ban wait for the disk", maxKept)
	}
	type outcome struct {
		note string
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		defer func() { <-a.waiting.kept }()
		a.drainFirst(a.waiting.life)
		note, err := a.fail2ban.hook(a.waiting.life, c)
		done <- outcome{note, err}
	}()
	select {
	case o := <-done:
		return control.HookReply{Note: o.note}, o.err
	case <-ctx.Done():
		return control.HookReply{}, control.Errorf(control.CodeUnavailable, "the hook goes on without its caller: %v", ctx.Err())
	}
}
