package enforce

import (
	"math/rand/v2"
	"slices"
	"sort"

	"banmesh/store"
)

// chunkSize is how many spans a chunk of a list has at first; it has at most twice as many.
// A change copies one chunk of 20 KB; the list of chunks of a million spans has 2,000 entries.
const chunkSize = 512

// list is spans, sorted and disjoint. A change makes a new list that shares unchanged chunks with the old one: it costs the
// same with a million spans, and another goroutine may go on reading the old list.
type list struct {
	chunks [][]span // none is empty
	n      int
}

// flat returns all spans.
func (l list) flat() []span { return slices.Concat(l.chunks...) }

// some returns n of the spans by chance, or all where there are no more.
// Not quite uniform, since chunks differ in size. A sample needs no more.
func (l list) some(n int, r *rand.Rand) []span {
	if l.n <= n {
		return l.flat()
	}
	out := make([]span, n)
	for i := range out {
		c := l.chunks[r.IntN(len(l.chunks))]
		out[i] = c[r.IntN(len(c))]
	}
	return out
}

// within returns the spans that have an address in one of the regions, whole. The regions are sorted and disjoint.
func (l list) within(regions []span) []span {
	var out []span
	for _, r := range regions {
		at := sort.Search(len(l.chunks), func(i int) bool { c := l.chunks[i]; return !c[len(c)-1].to.less(r.from) })
		for ; at < len(l.chunks); at++ {
			c := l.chunks[at]
			i := sort.Search(len(c), func(i int) bool { return !c[i].to.less(r.from) })
			for ; i < len(c) && !r.to.less(c[i].from); i++ {
				if n := len(out); n == 0 || out[n-1] != c[i] {
					out = append(out, c[i])
				}
			}
			if i < len(c) {
				break
			}
		}
	}
	return out
}

// edit returns the list without the spans of del, which are in it, without those near any change that ended by now, and
// with those of add.
func (l list) edit(del, add []span, now store.Millis) list {
	if len(del)+len(add) == 0 {
		return l
	}
	chunks := l.chunks
	if len(chunks) == 0 {
		chunks = [][]span{nil}
	}
	out := list{chunks: make([][]span, 0, len(chunks)+1+len(add)/chunkSize)}
	for i, c := range chunks {
		nd, na := len(del), len(add)
		if i+1 < len(chunks) {
			next := chunks[i+1][0].from
			nd = sort.Search(nd, func(j int) bool { return !del[j].from.less(next) })
			na = sort.Search(na, func(j int) bool { return !add[j].from.less(next) })
		}
		if nd+na > 0 {
			c = merge(without(c, del[:nd], now), add[:na])
		}
		del, add = del[nd:], add[na:]
		out.append(c)
	}
	return out
}

// append puts a chunk of any size at the end, which is the list's then.
func (l *list) append(c []span) {
	l.n += len(c)
	if n := len(l.chunks); n > 0 && len(l.chunks[n-1])+len(c) <= chunkSize {
		l.chunks[n-1] = slices.Concat(l.chunks[n-1], c)
		return
	}
	if len(c) <= 2*chunkSize {
		if len(c) > 0 {
			l.chunks = append(l.chunks, c)
		}
		return
	}
	for part := range slices.Chunk(c, chunkSize) {
		l.chunks = append(l.chunks, part)
	}
}

// without returns the spans that are not in del and end after now.
func without(spans, del []span, now store.Millis) []span {
	stay := make([]span, 0, len(spans))
	for _, s := range spans {
		for len(del) > 0 && del[0].to.less(s.from) {
			del = del[1:]
		}
		if s.until > now && (len(del) == 0 || del[0] != s) {
			stay = append(stay, s)
		}
	}
	return stay
}
