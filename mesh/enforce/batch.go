package enforce

import (
	"sort"

	"banmesh/store"
)

// lists is one list of spans for each family.
type lists [families][]span

func (l *lists) len() int { return len(l[v4]) + len(l[v6]) }

// batch is what a driver does in one step.
type batch struct{ del, add lists }

func (b *batch) len() int { return b.del.len() + b.add.len() }

// cut takes a batch of about size spans from the changes. Spans that overlap stay in one batch, so that no address is uncovered
// between two batches.
func cut(del, add *lists, size int) (b batch) {
	for f := range families {
		for len(del[f])+len(add[f]) > 0 && b.len() < size {
			nd, na := component(del[f], add[f])
			b.del[f], del[f] = append(b.del[f], del[f][:nd]...), del[f][nd:]
			b.add[f], add[f] = append(b.add[f], add[f][:na]...), add[f][na:]
		}
	}
	return b
}

// skip removes from the changes every group of overlapping spans that touches one of the regions, which are sorted and
// disjoint. It reports whether there was any.
func skip(del, add *lists, regions lists) (any bool) {
	for f := range families {
		if len(regions[f]) == 0 {
			continue
		}
		d, a := del[f], add[f]
		var keptD, keptA []span
		for len(d)+len(a) > 0 {
			nd, na := component(d, a)
			if touches(d[:nd], regions[f]) || touches(a[:na], regions[f]) {
				any = true
			} else {
				keptD, keptA = append(keptD, d[:nd]...), append(keptA, a[:na]...)
			}
			d, a = d[nd:], a[na:]
		}
		del[f], add[f] = keptD, keptA
	}
	return any
}

// touches requires that regions are sorted and do not overlap; spans may come in any order.
func touches(spans, regions []span) bool {
	for _, s := range spans {
		i := sort.Search(len(regions), func(i int) bool { return !regions[i].to.less(s.from) })
		if i < len(regions) && s.overlaps(regions[i]) {
			return true
		}
	}
	return false
}

// component counts the first spans of the two lists that form one group by overlapping.
// A deletion and the addition that replaces it overlap, so that both land in one batch: in between, the address would be let
// in.
func component(d, a []span) (nd, na int) {
	var end addr
	for first := true; ; first = false {
		switch {
		case nd < len(d) && (na == len(a) || !a[na].from.less(d[nd].from)) && (first || !end.less(d[nd].from)):
			if end.less(d[nd].to) || first {
				end = d[nd].to
			}
			nd++
		case na < len(a) && (first || !end.less(a[na].from)):
			if end.less(a[na].to) || first {
				end = a[na].to
			}
			na++
		default:
			return nd, na
		}
	}
}

// farthest is the longest timeout given to an element, so that no kernel clock is asked for more. Elements of longer bans are
// renewed when half of it is over.
const farthest = store.Millis(365 * 24 * 3600 * 1000)

// slack is how far the end of an element may be from the end of its ban: the clocks are read one after the other, and the
// agent's is corrected now and then.
const slack = store.Millis(1000)

// right reports whether an element that ends at one moment will do for a ban that ends at another.
func right(now, held, want store.Millis) bool {
	switch {
	case held == store.Never || want == store.Never:
		return held == want
	case held-now > farthest/2 && want-now > farthest/2:
		return true
	}
	return held-want <= slack && want-held <= slack
}
