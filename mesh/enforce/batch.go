package enforce

import "banmesh/store"

// lists is one list of spans for each family.
type lists [families][]span

func (l *lists) len() int { return len(l[v4]) + len(l[v6]) }

// batch is what a driver does in one step.
type batch struct{ del, add lists }

func (b *batch) len() int { return b.del.len() + b.add.len() }

// cut makes batches of about size spans each. What overlaps stays together, so that no address is uncovered between one
// batch and the next.
func cut(del, add lists, size int) []batch {
	var out []batch
	var b batch
	for f := range families {
		d, a := del[f], add[f]
		for len(d)+len(a) > 0 {
			if b.len() >= size {
				out, b = append(out, b), batch{}
			}
			nd, na := component(d, a)
			b.del[f], d = append(b.del[f], d[:nd]...), d[nd:]
			b.add[f], a = append(b.add[f], a[:na]...), a[na:]
		}
	}
	if b.len() > 0 {
		out = append(out, b)
	}
	return out
}

// component counts the first spans of two lists that hang together by overlapping.
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

// farthest is how long an element is given at most: no kernel's clock is asked for more. Longer ones are renewed when
// half of it is over.
const farthest = store.Millis(365 * 24 * 3600 * 1000)

// slack is how far the end of an element may be from the end of the ban: clocks are read one after the other, and the
// agent's is corrected now and then.
const slack = store.Millis(1000)

// right reports whether an element held until one moment will do for a ban until another.
func right(now, held, want store.Millis) bool {
	switch {
	case held == store.Never || want == store.Never:
		return held == want
	case held-now > farthest/2 && want-now > farthest/2:
		return true
	}
	return held-want <= slack && want-held <= slack
}
