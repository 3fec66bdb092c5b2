package enforce

import (
	"context"
	"fmt"
	"time"
)

// A job is work that takes long. It runs beside the loop that applies changes, on a snapshot of the loop's state. Results in
// places that changed meanwhile are left out, and deletions are checked once more.
type job struct {
	done  chan result // holds one, so that the job can end even if nobody waits
	dirty lists       // where the loop has changed something since the job began; sorted and disjoint
}

// result is what a job has found.
type result struct {
	read     bool  // it has read the router
	err      error // why not
	del, add lists // of a reading: elements assumed but not held, and held but not assumed; of a comparison: the changes to make
	tidy     bool  // some changes only join elements that are cut too fine
	over     lists // what the router has let expire
}

// touch records where the loop changes something.
func (j *job) touch(holes lists) {
	for f := range families {
		if len(holes[f]) > 0 {
			j.dirty[f] = union(append(j.dirty[f], holes[f]...))
		}
	}
}

// newJob runs f beside the loop that applies bans. Its channel holds the result, so that a job nobody waits
// for any more can end.
func newJob(f func() result) *job {
	j := &job{done: make(chan result, 1)}
	go func() { j.done <- f() }()
	return j
}

// readJob compares the router's elements with the assumed ones.
func (w *worker) readJob(ctx context.Context) *job {
	held, patience := w.router.held, patient
	if !w.router.known && !w.frozen {
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
			r.del[f], r.add[f] = differences(held[f].flat(), real[f])
		}
		return r
	})
}

// differences returns the elements of thought that are not real, and the real ones that were not thought. An element that ends
// right now may be in either.
func differences(thought, real []span) (del, add []span) {
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

// compareJob compares the elements assumed on the router with the wanted ones. While frozen, it adds nothing to what is there,
// or was there before it had to be made anew.
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

// scraps is how many elements beyond twice the necessary number are tolerated: bans and lifts within a wider ban cut it ever
// finer.
const scraps = 1000

// If reading takes longer, the table is replaced instead. At the start, bans wait for the reading, and replacing what cannot be
// read in this time costs less: 30,000 elements or more. Later, and at the start of a frozen router, whose elements must be
// known, they wait only for the replacement.
const (
	impatient = 100 * time.Millisecond
	patient   = 2 * time.Minute
)

// readShare bounds how much time others can make this process spend on reading the router: at most one part in readShare.
const readShare = 10

// finish applies the result of the job.
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
	skip(&r.over, new(lists), j.dirty) // in places that changed meanwhile, expired elements have been removed already
	for f := range families {
		w.router.held[f] = w.router.held[f].edit(r.over[f], nil, 0)
	}
	if skip(&r.del, &r.add, j.dirty) {
		w.all = true
	}
	w.todo, w.todoJob, w.tidy = batch{r.del, r.add}, j, r.tidy
	return nil
}
