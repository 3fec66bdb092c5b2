package enforce

import (
	"context"
	"fmt"
	"time"

	"banmesh/store"
)

// A job is what takes long: it runs beside the loop that applies changes, on what that has known at its beginning. What
// has been changed meanwhile is left out of its result, and what would be deleted by it is looked at once more.
type job struct {
	done  chan result // holds one: nobody need wait for it
	dirty lists       // where the loop has changed anything since the job began; sorted and disjoint
}

// result is what a job has found.
type result struct {
	read     bool  // it has read the router
	err      error // why not
	del, add lists // of a reading: what is not held, and what is though it was not known; else what is to be done
	tidy     bool  // there is more to be done than is wrong: what is held is cut too fine
	over     lists // what the router has forgotten by itself
}

// touch notes where the loop changes something.
func (j *job) touch(holes lists) {
	for f := range families {
		if len(holes[f]) > 0 {
			j.dirty[f] = union(append(j.dirty[f], holes[f]...))
		}
	}
}

func newJob(f func() result) *job {
	j := &job{done: make(chan result, 1)}
	go func() { j.done <- f() }()
	return j
}

// readJob compares what the router holds with what is thought.
func (w *worker) readJob(ctx context.Context) *job {
	held, patience := w.router.held, patient
	if !w.router.known {
		patience = impatient
	}
	return newJob(func() result {
		elements, err := w.cfg.Driver.Held(ctx, patience)
		r := result{read: true, err: err}
		if err != nil {
			r.err = fmt.Errorf("read what is enforced: %w", err)
			return r
		}
		now := w.now()
		real := spansOf(elements, now)
		for f := range families {
			r.del[f], r.add[f] = differences(held[f].flat(), real[f], now)
		}
		return r
	})
}

// differences returns what of thought is not real, and what of real was not thought. What ends just now may be in either.
func differences(thought, real []span, now store.Millis) (del, add []span) {
	for len(thought)+len(real) > 0 {
		switch {
		case len(real) == 0 || len(thought) > 0 && thought[0].from.less(real[0].from):
			del, thought = append(del, thought[0]), thought[1:]
		case len(thought) == 0 || real[0].from.less(thought[0].from):
			add, real = append(add, real[0]), real[1:]
		default:
			if !thought[0].near(real[0]) {
				del, add = append(del, thought[0]), append(add, real[0])
			}
			thought, real = thought[1:], real[1:]
		}
	}
	return del, add
}

// compareJob compares what is thought to be on the router with what should be. While frozen, nothing is to be added to what
// is there, or was before it had to be made anew.
func (w *worker) compareJob() *job {
	held, now := w.router.held, w.now()
	bound, frozen, anew := held, w.frozen, w.router.anew
	if anew {
		bound = w.router.former
	}
	return newJob(func() result {
		if !frozen && !anew {
			if places, over, few := doubts(w.cfg.Set, held, now); few {
				r := result{over: over}
				r.del, r.add = changesIn(held, now, places, wantedIn(w.cfg.Set, places), false, false)
				return r
			}
		}
		var r result
		want := wanted(w.cfg.Set)
		for f := range families {
			if frozen {
				want[f] = lesser(bound[f].flat(), want[f])
			}
			var near []span
			for _, s := range held[f].flat() {
				if s.until <= now {
					r.over[f] = append(r.over[f], s)
				} else {
					near = append(near, s)
				}
			}
			tidy := len(near) > 2*len(want[f])+scraps
			r.del[f], r.add[f] = changes(now, near, want[f], tidy)
			r.tidy = r.tidy || tidy
		}
		return r
	})
}

// scraps is how many elements more than twice those needed are kept: bans and lifts within a wider ban cut it ever finer.
const scraps = 1000

// What takes longer to be read is replaced instead. At the start, bans wait for the reading; later they wait for the
// replacing, which takes seconds for a million, and not for the reading.
const (
	impatient = 2 * time.Second
	patient   = 2 * time.Minute
)

// readShare bounds how much of the time somebody else can make the router be read: at most one part in that many.
const readShare = 10

// finish takes in what the job has found.
func (w *worker) finish() error {
	j, r := w.job, w.result
	w.job, w.result = nil, nil
	switch {
	case w.replaces(r.err):
		w.lose(true)
		return nil
	case r.err != nil:
		return r.err
	case r.read:
		w.readAfter = time.Now().Add(readShare * time.Since(w.readBegan))
		skip(&r.del, &r.add, j.dirty)
		for f := range families {
			w.router.held[f] = w.router.held[f].edit(r.del[f], r.add[f], 0)
		}
		w.router.known, w.all = true, true
		return nil
	}
	skip(&r.over, new(lists), j.dirty) // where something was changed meanwhile, what ended is out already
	for f := range families {
		w.router.held[f] = w.router.held[f].edit(r.over[f], nil, 0)
	}
	if skip(&r.del, &r.add, j.dirty) {
		w.all = true
	}
	w.todo, w.todoJob, w.tidy = batch{r.del, r.add}, j, r.tidy
	return nil
}
