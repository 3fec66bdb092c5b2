package mesh

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/spool"
	"banmesh/store"
)

// maxKept bounds the hooks of fail2ban whose callers have gone while the disk does
// not answer. Each caller has spooled its call by then, so beyond it none is lost.
const maxKept = 10_000

// waiting are calls that reached no agent in time, and those that this one holds
// although their callers have gone.
type waiting struct {
	waitingConfig
	spools Spools
	early  *earlyUnbans

	// Counting reads a directory, which hangs with the disk; status must not.
	spooled atomic.Int64    // in spool, as of the last look
	kept    chan struct{}   // one for each hook under way
	life    context.Context // of what outlives its caller
	end     context.CancelFunc
}

// waitingConfig is what they need of the agent.
type waitingConfig struct {
	Apply  func(context.Context, spool.Entry) error
	Lift   func(context.Context, control.UnbanCall) ([]store.Lifted, error)
	Hook   func(context.Context, control.HookCall) (note string, err error)
	Logger *slog.Logger
}

// newWaiting gives the calls that are kept a life of their own: one that has begun is finished although its
// caller hung up.
func newWaiting(c waitingConfig, spools Spools, early *earlyUnbans) *waiting {
	w := &waiting{waitingConfig: c, spools: spools, early: early, kept: make(chan struct{}, maxKept)}
	w.life, w.end = context.WithCancel(context.Background())
	return w
}

// files are the two spools of an agent: one in its data directory and a quick one
// beside its socket, in memory.
type files struct {
	spool, quick *spool.Spool
	socket       string
}

// Prepare makes both spools and leaves a note beside the socket, by which a command finds the spool of the
// agent that it cannot reach.
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

// Quick returns how many calls wait in memory because the disk did not answer. One that cannot be read counts
// as empty.
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
func (w *waiting) chores(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		w.drainFirst(ctx)
		if n, err := w.spools.Len(); err == nil {
			w.spooled.Store(int64(n))
		}
		if err := w.early.run(ctx, w.Lift); err != nil && ctx.Err() == nil {
			w.Logger.Warn("repeat the unbans given before the first exchange", "error", err)
		}
	}
}

// drainFirst applies the calls that waited in the spools, so that they come
// before the one at hand.
// A drain that fails delays nothing: the call at hand goes on, and chores tries again within a second.
func (w *waiting) drainFirst(ctx context.Context) {
	drained, err := w.spools.Drain(ctx, w.Apply)
	for _, aside := range drained.Aside {
		w.Logger.Error("spooled call refused", "error", aside)
	}
	for _, unread := range drained.Unread {
		w.Logger.Warn("spooled call not readable", "error", unread)
	}
	if err != nil && ctx.Err() == nil {
		w.Logger.Warn("the spool is not drained", "error", err)
	}
	if drained.Applied > 0 {
		w.Logger.Info("spooled calls applied", "calls", drained.Applied)
	}
}

// hookOn does what a hook means. fail2ban asks once, so the hook goes on when its
// caller has no more time: it is done when the disk answers, and doing it again from
// the spool changes nothing.
func (w *waiting) hookOn(ctx context.Context, c control.HookCall) (control.HookReply, error) {
	select {
	// Given back by the goroutine below, not here: it counts hooks whose callers have gone.
	case w.kept <- struct{}{}:
	default:
		return control.HookReply{}, control.Errorf(control.CodeUnavailable, "%d calls of fail2ban wait for the disk", maxKept)
	}
	type outcome struct {
		note string
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		defer func() { <-w.kept }()
		// With the agent's life and not the caller's: a drain that is cut off in the middle would have to begin again.
		w.drainFirst(w.life)
		note, err := w.Hook(w.life, c)
		done <- outcome{note, err}
	}()
	select {
	case o := <-done:
		return control.HookReply{Note: o.note}, o.err
	case <-ctx.Done():
		return control.HookReply{}, control.Errorf(control.CodeUnavailable, "the hook goes on without its caller: %v", ctx.Err())
	}
}
