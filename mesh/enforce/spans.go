package enforce

import (
	"slices"

	"banmesh/store"
)

// The lists of spans here are sorted and disjoint, unless said otherwise. None of the functions changes its arguments unless it
// says so; a result may share memory with them, for lists may have a million spans.

// flatten gives each address the longest until of all that cover it. The spans given are those of prefixes, in any order:
// of two, one lies within the other or they are disjoint. Ranges that go on with the same until are one. It sorts its argument.
func flatten(nested []span) []span {
	slices.SortFunc(nested, func(a, b span) int {
		if c := a.from.compare(b.from); c != 0 {
			return c
		}
		// Of two that begin together the outer one first.
		return b.to.compare(a.to)
	})
	out := make([]span, 0, len(nested))
	var open []span // those around pos, the outermost first; each lasts longer than the one before it
	var pos addr
	emit := func(to addr, until store.Millis) {
		if n := len(out); n == 0 || out[n-1].to.less(to) {
			out = join(out, span{pos, to, until})
			pos = to.next()
		}
	}
	pop := func() {
		top := open[len(open)-1]
		emit(top.to, top.until)
		open = open[:len(open)-1]
	}
	for _, s := range nested {
		for len(open) > 0 && open[len(open)-1].to.less(s.from) {
			pop()
		}
		if n := len(open); n > 0 {
			if pos.less(s.from) {
				emit(s.from.prev(), open[n-1].until)
			}
			if s.until <= open[n-1].until {
				continue // it adds nothing to what is around it
			}
		}
		pos = s.from
		open = append(open, s)
	}
	for len(open) > 0 {
		pop()
	}
	return out
}

// join appends s to a list, as part of its last span where it goes on with the same until. A single address stays one: it
// is cheaper to hold, and to change.
func join(list []span, s span) []span {
	if n := len(list); n > 0 && list[n-1].until == s.until && list[n-1].to.less(s.from) && list[n-1].to.next() == s.from &&
		list[n-1].from != list[n-1].to && s.from != s.to {
		list[n-1].to = s.to
		return list
	}
	return append(list, s)
}

// union makes spans disjoint, which may overlap and are in no order. Their ends do not count.
func union(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return a.from.compare(b.from) })
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n == 0 || out[n-1].to.less(s.from) {
			out = append(out, s)
		} else if out[n-1].to.less(s.to) {
			out[n-1].to = s.to
		}
	}
	return out
}

// merge makes one list of two that have no address in common.
func merge(a, b []span) []span {
	out := make([]span, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0].from.less(b[0].from) {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// subtract returns what is left of list outside the holes.
func subtract(list, holes []span) []span {
	if len(holes) == 0 {
		return list
	}
	out := make([]span, 0, len(list))
	for _, s := range list {
		for len(holes) > 0 && holes[0].to.less(s.from) {
			holes = holes[1:]
		}
		rest, some := s, true
		for _, h := range holes {
			if s.to.less(h.from) {
				break
			}
			if rest.from.less(h.from) {
				out = append(out, span{rest.from, h.from.prev(), s.until})
			}
			if some = h.to.less(s.to); !some {
				break
			}
			rest.from = h.to.next()
		}
		if some {
			out = append(out, rest)
		}
	}
	return out
}

// lesser returns the addresses that are in both lists, each with the shorter until.
func lesser(a, b []span) []span {
	var out []span
	for len(a) > 0 && len(b) > 0 {
		x, y := a[0], b[0]
		if x.overlaps(y) {
			s := span{x.from, x.to, min(x.until, y.until)}
			if s.from.less(y.from) {
				s.from = y.from
			}
			if y.to.less(s.to) {
				s.to = y.to
			}
			out = join(out, s)
		}
		// The one that ends first is done; the other may meet more.
		if x.to.less(y.to) {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// diff returns what must be taken from held, whole spans of it, and what must be added to the rest, so that every
// address is held as it is wanted. A span held is right when same says so of its until and of all that is wanted there:
// it does not matter how what is wanted is cut into spans.
func diff(held, want []span, same func(held, want store.Millis) bool) (del, add []span) {
	var kept []span
	rest := want
	for _, h := range held {
		for len(rest) > 0 && rest[0].to.less(h.from) {
			rest = rest[1:]
		}
		if agrees(h, rest, same) {
			kept = append(kept, h)
		} else {
			del = append(del, h)
		}
	}
	return del, subtract(want, kept)
}

// differing returns the spans of held that are none of want.
func differing(held, want []span) []span {
	var out []span
	for _, h := range held {
		for len(want) > 0 && want[0].from.less(h.from) {
			want = want[1:]
		}
		if len(want) == 0 || want[0] != h {
			out = append(out, h)
		}
	}
	return out
}

// agrees reports whether every address of h is wanted as h holds it.
func agrees(h span, want []span, same func(held, want store.Millis) bool) bool {
	at := h.from
	for _, w := range want {
		switch {
		case at.less(w.from) || !same(h.until, w.until):
			return false
		case !w.to.less(h.to):
			return true
		}
		at = w.to.next()
	}
	return false
}
