package enforce

import (
	"net/netip"
	"sort"

	"go4.org/netipx"

	"banmesh/store"
)

const (
	// mostDoubts is how many places are examined one by one. If there are more, everything is sorted and compared.
	mostDoubts = 1000
	// narrow is how many bits of an address a doubtful place may leave open: looking up the wanted bans of a wider one takes
	// the store as long as a walk over all, under one lock.
	narrow = 8
)

// doubts finds where the held elements may differ from the wanted ones, by looking for each piece of a ban among the elements.
// It sorts and copies nothing: for a million bans that would be 200 MB of garbage each minute.
//
// An element is beyond doubt if it is a piece of a ban and ends with that ban. Any other ban of its addresses is a piece
// without such an element, and so a doubt itself. few is false if the doubts are too many or too wide to be examined one by
// one.
func doubts(set replicatedSet, held [families]list, now store.Millis) (places []netip.Prefix, over lists, few bool) {
	var sure [families][]bool // by the element's place
	for f := range families {
		sure[f] = make([]bool, held[f].n)
	}
	finders := [families]finder{newFinder(held[v4]), newFinder(held[v6])}
	doubt := func(p netip.Prefix) bool {
		places = append(places, p)
		return p.Addr().BitLen()-p.Bits() <= narrow && len(places) <= mostDoubts
	}
	for b := range set.EffectiveParts() {
		if b.Held {
			continue
		}
		for _, p := range b.Pieces {
			f, want := spanOf(p, b.Until)
			if at, s := finders[f].find(want.from); at >= 0 && s.to == want.to && s.until > now && right(now, s.until, want.until) {
				sure[f][at] = true
			} else if !doubt(p) {
				return nil, lists{}, false
			}
		}
	}
	for f := range families {
		at := -1
		for _, c := range held[f].chunks {
			for _, s := range c {
				at++
				if s.until <= now {
					over[f] = append(over[f], s)
					continue
				}
				if sure[f][at] {
					continue
				}
				for _, p := range netipx.IPRangeFrom(s.from.in(f), s.to.in(f)).Prefixes() {
					if !doubt(p) {
						return nil, lists{}, false
					}
				}
			}
		}
	}
	return disjoint(places), over, true
}

// finder finds the spans of a list by their first address.
type finder struct {
	list
	before []int // how many spans precede each chunk
}

// newFinder sums the lengths of the chunks once, so that an element is found by its position without walking
// the list.
func newFinder(l list) finder {
	f := finder{list: l, before: make([]int, len(l.chunks))}
	n := 0
	for i, c := range l.chunks {
		f.before[i] = n
		n += len(c)
	}
	return f
}

// find returns the place of the span that begins at an address, or -1.
func (f *finder) find(from addr) (at int, s span) {
	i := sort.Search(len(f.chunks), func(i int) bool { return from.less(f.chunks[i][0].from) }) - 1
	if i < 0 {
		return -1, span{}
	}
	c := f.chunks[i]
	j := sort.Search(len(c), func(j int) bool { return !c[j].from.less(from) })
	if j == len(c) || c[j].from != from {
		return -1, span{}
	}
	return f.before[i] + j, c[j]
}
