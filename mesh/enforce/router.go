package enforce

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"banmesh/store"
)

// batchSize is how many elements a driver is given in one step, where they can be parted. A kernel does its work on a
// batch in one go.
const batchSize = 65536

// scraps is how many elements more than twice those needed are kept: bans and lifts within a wider ban cut it ever finer.
const scraps = 1000

// router is what is known to be on the router.
type router struct {
	driver  Driver
	held    lists
	unknown bool // held is not known to be right
	whole   bool // the next step replaces what could not be read: it must not be parted
	size    int  // of a batch
	batches uint64
}

// read asks the driver what is there.
func (r *router) read(ctx context.Context, now func() time.Time) error {
	r.unknown = true
	elements, err := r.driver.Held(ctx)
	if r.whole = errors.Is(err, ErrUnreadable); err != nil {
		return fmt.Errorf("read what is enforced: %w", err)
	}
	r.hold(elements, store.At(now()))
	return nil
}

func (r *router) hold(elements []Element, now store.Millis) {
	r.held = lists{}
	for _, e := range elements {
		f, from := addrOf(e.From)
		_, to := addrOf(e.To)
		until := store.Never
		if e.Left > 0 {
			until = now + store.Millis(e.Left.Milliseconds())
		}
		r.held[f] = append(r.held[f], span{from, to, until})
	}
	for f := range r.held {
		slices.SortFunc(r.held[f], func(a, b span) int { return a.from.compare(b.from) })
	}
	r.unknown = false
}

// prune forgets what the kernel has forgotten.
func (r *router) prune(now store.Millis) {
	for f := range r.held {
		r.held[f] = slices.DeleteFunc(r.held[f], func(s span) bool { return s.until <= now })
	}
}

// become makes the whole router hold what is wanted; with less, no more than it holds already.
func (r *router) become(ctx context.Context, now store.Millis, want lists, less bool) error {
	r.prune(now)
	var del, add lists
	for f := range families {
		if less {
			want[f] = lesser(r.held[f], want[f])
		}
		same := func(h, w store.Millis) bool { return right(now, h, w) }
		if del[f], add[f] = diff(r.held[f], want[f], same); len(r.held[f]) > 2*len(want[f])+scraps {
			del[f] = differing(r.held[f], want[f])
			add[f] = subtract(want[f], subtract(r.held[f], del[f]))
		}
	}
	if del.len()+add.len() == 0 {
		return r.apply(ctx, now, batch{})
	}
	return r.do(ctx, now, del, add)
}

// becomeIn is become for what lies in some regions, which are disjoint. The rest of an element that stands out of them
// stays.
func (r *router) becomeIn(ctx context.Context, now store.Millis, regions []netip.Prefix, want lists, less bool) error {
	var holes lists
	for _, p := range regions {
		f, s := spanOf(p, 0)
		holes[f] = append(holes[f], s)
	}
	var del, add lists
	for f := range families {
		near := slices.DeleteFunc(within(r.held[f], holes[f]), func(s span) bool { return s.until <= now })
		all := merge(subtract(near, holes[f]), want[f])
		if less {
			all = lesser(near, all)
		}
		del[f], add[f] = diff(near, all, func(h, w store.Millis) bool { return right(now, h, w) })
	}
	return r.do(ctx, now, del, add)
}

func (r *router) do(ctx context.Context, now store.Millis, del, add lists) error {
	size := r.size
	if r.whole {
		size = del.len() + add.len()
	}
	for _, b := range cut(del, add, size) {
		if err := r.apply(ctx, now, b); err != nil {
			return err
		}
	}
	return nil
}

func (r *router) apply(ctx context.Context, now store.Millis, b batch) error {
	var del, add []Element
	for f := range families {
		for _, s := range b.del[f] {
			del = append(del, Element{From: s.from.in(f), To: s.to.in(f)})
		}
		for i := range b.add[f] {
			s := &b.add[f][i]
			e := Element{From: s.from.in(f), To: s.to.in(f)}
			if s.until != store.Never {
				s.until = min(s.until, now+farthest)
				e.Left = max(time.Duration(s.until-now), 1) * time.Millisecond
			}
			add = append(add, e)
		}
	}
	if err := r.driver.Apply(ctx, del, add); err != nil {
		r.unknown = true
		return fmt.Errorf("enforce %d changes: %w", b.len(), err)
	}
	r.whole = false
	if b.len() > 0 {
		r.batches++
	}
	for f := range families {
		r.held[f] = edit(r.held[f], b.del[f], b.add[f], now)
	}
	return nil
}
