package enforce

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"banmesh/store"
)

// batchSize is how many elements a driver gets in one step, if they can be split: a kernel needs about 5 ms for them, and a ban
// that comes meanwhile waits for one step at most.
const batchSize = 4096

// router is what is known about the content of the router.
// All of it is belief: only a reading, a look-up or the driver's success change it. ErrStale says that it was wrong.
type router struct {
	driver  Driver
	held    [families]list
	known   bool // held has been read or made
	anew    bool // the next step makes everything anew
	whole   bool // that step must not be split: the old content drops until then
	size    int  // of a batch
	batches uint64

	former [families]list // what was held before it had to be made anew
	stale  []netip.Addr   // where the router differed when it refused the last step
}

// lose records that the router's content must be made anew; whole says that it has some now.
func (r *router) lose(whole bool) {
	if !r.anew {
		r.former = r.held
	}
	r.held, r.known, r.anew, r.whole = [families]list{}, true, true, whole
}

// spansOf are the spans of elements, sorted.
func spansOf(elements []Element, now store.Millis) lists {
	var l lists
	for _, e := range elements {
		f, from := addrOf(e.From)
		_, to := addrOf(e.To)
		until := store.Never
		if e.Left > 0 {
			until = now + store.Millis(e.Left.Milliseconds())
		}
		l[f] = append(l[f], span{from, to, until})
	}
	for f := range l {
		slices.SortFunc(l[f], func(a, b span) int { return a.from.compare(b.from) })
	}
	return l
}

// becomeIn makes the router hold what is wanted in some regions, which are disjoint; with less, no more than it holds already.
// An element that extends beyond them keeps the rest. With tidy, it also replaces correct elements that are cut finer than
// necessary.
func (r *router) becomeIn(ctx context.Context, now store.Millis, regions []netip.Prefix, want lists, less, tidy bool) error {
	del, add := changesIn(r.held, now, regions, want, less, tidy)
	for del.len()+add.len() > 0 {
		if err := r.apply(ctx, now, cut(&del, &add, r.size)); err != nil {
			return err
		}
	}
	return nil
}

// changesIn are the changes that turn what is held into what is wanted, in some regions, which are sorted and disjoint.
func changesIn(held [families]list, now store.Millis, regions []netip.Prefix, want lists, less, tidy bool) (del, add lists) {
	holes := holesOf(regions)
	for f := range families {
		near := slices.DeleteFunc(held[f].within(holes[f]), func(s span) bool { return s.until <= now })
		all := merge(subtract(near, holes[f]), want[f])
		if less {
			all = lesser(near, all)
		}
		del[f], add[f] = changes(now, near, all, tidy)
	}
	return del, add
}

// changes are the changes that turn one list into the other.
func changes(now store.Millis, held, want []span, tidy bool) (del, add []span) {
	if tidy {
		del = differing(held, want)
		return del, subtract(want, subtract(held, del))
	}
	return diff(held, want, func(h, w store.Millis) bool { return right(now, h, w) })
}

// holesOf gives the regions the form of elements without an end.
func holesOf(regions []netip.Prefix) (holes lists) {
	for _, p := range regions {
		f, s := spanOf(p, 0)
		holes[f] = append(holes[f], s)
	}
	return holes
}

// apply makes a batch of changes. An empty batch still makes whatever the driver lacks.
func (r *router) apply(ctx context.Context, now store.Millis, b batch) error {
	if b.len() == 0 && !r.anew {
		return nil
	}
	c := Change{Anew: r.anew, Del: make([]Element, 0, b.del.len()), Add: make([]Element, 0, b.add.len())}
	for f := range families {
		for _, s := range b.del[f] {
			c.Del = append(c.Del, Element{From: s.from.in(f), To: s.to.in(f)})
		}
		for i := range b.add[f] {
			s := &b.add[f][i]
			e := Element{From: s.from.in(f), To: s.to.in(f)}
			if s.until != store.Never {
				// What is remembered is what the router got, so that the renewal of a long ban is found by comparing.
				s.until = min(s.until, now+farthest)
				e.Left = max(time.Duration(s.until-now), 1) * time.Millisecond
			}
			c.Add = append(c.Add, e)
		}
	}
	if err := r.driver.Apply(ctx, c); err != nil {
		r.stale = b.points()
		return fmt.Errorf("enforce %d changes: %w", b.len(), err)
	}
	// Only after success: a refused step has changed nothing.
	r.anew, r.whole, r.former = false, false, [families]list{}
	if b.len() > 0 {
		r.batches++
	}
	for f := range families {
		r.held[f] = r.held[f].edit(b.del[f], b.add[f], now)
	}
	return nil
}

// learn asks the router what it holds at some addresses, accepts the answer and returns where it differs from what was assumed;
// torn says that elements differ, and not only in their ends. An element that overlaps a known one, as when somebody adds a
// range around a held address, is deleted at once: it should not be there.
func (r *router) learn(ctx context.Context, now store.Millis, addresses []netip.Addr) (where []netip.Prefix, torn bool, err error) {
	found, err := r.driver.Look(ctx, addresses)
	if err != nil {
		return nil, false, fmt.Errorf("look up what is enforced: %w", err)
	}
	real := spansOf(found, now)
	var asked lists
	for _, a := range addresses {
		f, at := addrOf(a)
		asked[f] = append(asked[f], span{at, at, 0})
	}
	var del, stray lists
	for f := range families {
		asked[f] = union(asked[f])
		var add []span
		for _, h := range r.held[f].within(asked[f]) {
			if !slices.ContainsFunc(real[f], func(s span) bool { return s.near(h) }) {
				del[f] = append(del[f], h)
				torn = torn || !slices.ContainsFunc(real[f], func(s span) bool { return s.from == h.from && s.to == h.to })
			}
		}
		next := r.held[f].edit(del[f], nil, now)
		for _, s := range real[f] {
			switch near := next.within([]span{s}); {
			case len(near) == 0:
				torn = torn || !slices.ContainsFunc(del[f], func(h span) bool { return s.from == h.from && s.to == h.to })
				add, next = append(add, s), next.edit(nil, []span{s}, now)
			case !s.near(near[0]):
				stray[f] = append(stray[f], s)
			}
		}
		r.held[f] = next
		for _, s := range slices.Concat(del[f], add) {
			where = append(where, netipx.IPRangeFrom(s.from.in(f), s.to.in(f)).Prefixes()...)
		}
	}
	if stray.len() == 0 {
		return where, torn, nil
	}
	before := r.held
	err = r.apply(ctx, now, batch{del: stray})
	r.held = before
	if errors.Is(err, ErrStale) { // it is gone already
		err = nil
	}
	return where, true, err
}

// near reports whether two spans are the same element read at different times.
func (s span) near(o span) bool {
	return s.from == o.from && s.to == o.to && (s.until == o.until || s.until-o.until <= slack && o.until-s.until <= slack)
}

// points are the addresses for looking up the elements of a batch.
func (b *batch) points() (out []netip.Addr) {
	for _, l := range []*lists{&b.del, &b.add} {
		for f := range families {
			for _, s := range l[f] {
				if out = append(out, s.from.in(f)); s.to != s.from {
					out = append(out, s.to.in(f))
				}
			}
		}
	}
	return out
}

// regions are the prefixes of everything the batch touches.
func (b *batch) regions() (out []netip.Prefix) {
	for f := range families {
		for _, s := range union(slices.Concat(b.del[f], b.add[f])) {
			out = append(out, netipx.IPRangeFrom(s.from.in(f), s.to.in(f)).Prefixes()...)
		}
	}
	return out
}
