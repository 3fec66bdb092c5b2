package store

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"
)

// List returns the prefixes with a live ban that the query selects, as of one moment.
func (s *Store) List(q Query) []Entry {
	entries, _ := s.Find(q)
	return entries
}

// Find returns what List does, and how many entries the query selects without its Offset and Limit.
func (s *Store) Find(q Query) (entries []Entry, total int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	f := finder{Query: q, set: s.set, now: s.now()}
	f.exemptions = s.exemptionsLocked(f.now)
	found := f.all()
	total = f.total
	from, to := min(max(q.Offset, 0), len(found)), len(found)
	if q.Limit > 0 && q.Limit < to-from {
		to = from + q.Limit
	}
	sortPart(found, from, to, f.compare)
	found = found[from:to]
	// Entries are made last: they are large, and a page of a long list needs only a few.
	entries = make([]Entry, 0, len(found))
	for i := range found {
		if e, ok := s.entry(found[i].head, f.now, f.exemptions); ok {
			entries = append(entries, e)
		}
	}
	return entries, total
}

// finder collects what a query selects.
type finder struct {
	Query
	set        *set
	now        Millis
	exemptions exemptions

	total int // how many places were selected
}

// place is where the records of a selected prefix begin, with its sort key.
type place struct {
	key          pkey
	head         uint32
	rank         int64
	origin, jail string
}

// all returns the places that the query selects, in any order. With a limit it may drop those that sort beyond it.
func (f *finder) all() []place {
	var found []place
	// A page keeps only what may be on it or before it. The bounds keep the sum from overflowing.
	most := 0
	if f.Limit > 0 && f.Offset < 1<<30 && f.Limit < 1<<30 {
		most = max(f.Offset, 0) + f.Limit
	}
	var last *place // no place after it is on the page
	take := func(head uint32) {
		p, ok := f.look(head)
		if !ok {
			return
		}
		f.total++
		if last != nil && f.compare(p, *last) > 0 {
			return
		}
		found = append(found, p)
		// Cut at twice the size, so that each cut drops as many places as it keeps.
		if most > 0 && len(found) >= 2*most+1024 {
			sortPart(found, most-1, most, f.compare)
			found = found[:most]
			at := found[most-1]
			last = &at
		}
	}
	// The table is a hash table: what lies inside a prefix is found by looking at every place.
	every := func(fits func(pkey) bool) {
		for _, head := range f.set.table.slots {
			if head != 0 && fits(f.set.slab.at(head).key()) {
				take(head)
			}
		}
	}
	if f.Prefix == (netip.Prefix{}) {
		if most == 0 {
			found = make([]place, 0, f.set.table.n)
		}
		every(func(pkey) bool { return true })
		return found
	}
	want, err := keyOf(netip.PrefixFrom(f.Prefix.Addr().Unmap().WithZone(""), f.Prefix.Bits()).Masked())
	switch {
	case err == errAll: // the query names a whole family
		every(func(k pkey) bool { return k.is4() == f.Prefix.Addr().Is4() })
		return found
	case err != nil:
		return nil
	}
	f.set.wider(want, func(_ pkey, head uint32) { take(head) })
	if want.bits < 128 {
		every(want.covers)
	} else if head := f.set.head(want); head != 0 {
		take(head)
	}
	return found
}

// look says whether the query selects a prefix, without making its entry.
func (f *finder) look(head uint32) (p place, ok bool) {
	var fits, counts bool
	var until, most int64
	var routers sightings
	for c := head; c != 0; {
		r := f.set.slab.at(c)
		c = r.next
		if !liveBan(r, f.now) {
			continue
		}
		by, l := f.set.originOf(r), f.set.labels.at(r.label)
		fits = fits || (f.Jail == "" || l.jail == f.Jail) && (f.Origin == "" || by.name == f.Origin) &&
			r.start >= f.Since && (f.Until == 0 || r.start < f.Until)
		switch f.Sort {
		case ByUntil, ByPrefix:
		case ByStart:
			most = max(most, int64(r.start))
		case ByFailures:
			most = max(most, int64(r.failures))
		case ByRouters:
			routers.add(by, l.jail)
		case ByOrigin, ByJail:
			if p.head == 0 || cmp.Or(cmp.Compare(by.name, p.origin), cmp.Compare(l.jail, p.jail)) < 0 {
				p.head, p.origin, p.jail = head, by.name, l.jail
			}
		}
		switch does := f.set.ignored(r) == ""; {
		case does && !counts: // a ban that counts decides the end of the entry
			counts, until = true, int64(r.until)
		case does == counts:
			until = max(until, int64(r.until))
		}
	}
	if !fits {
		return p, false
	}
	p.key, p.head = f.set.slab.at(head).key(), head
	if f.Effective != nil {
		// Only an exemption of the whole takes its effect away; a ban with holes still blocks the rest.
		effective := counts && !f.exemptions.covers(p.key.prefix())
		if effective != *f.Effective {
			return p, false
		}
	}
	switch f.Sort {
	case ByUntil:
		p.rank = until
	case ByRouters:
		origins, _ := routers.count()
		p.rank = -int64(origins)
	case ByStart, ByFailures:
		p.rank = -most
	}
	return p, true
}

// compare breaks ties by prefix: two pages of one list must neither repeat nor leave out an entry.
func (f *finder) compare(a, b place) int {
	c := cmp.Compare(a.rank, b.rank)
	switch {
	case c != 0:
		return c
	case f.Sort == ByOrigin:
		c = cmp.Compare(a.origin, b.origin)
	case f.Sort == ByJail:
		c = cmp.Compare(a.jail, b.jail)
	}
	if c != 0 {
		return c
	}
	return a.key.compare(b.key)
}

// sortPart puts in place what a sorted list has from from to to: what belongs before is before it, and what belongs after is
// after it. A page deep in a list of a hundred thousand takes a few passes over it instead of a sort.
func sortPart(all []place, from, to int, compare func(a, b place) int) {
	for rounds := 4 * bits.Len(uint(len(all))); from < to; rounds-- {
		if n := len(all); n < 64 || to-from > n/4 || rounds == 0 { // the last: the pivots were bad again and again
			slices.SortFunc(all, compare)
			return
		}
		pivot := medianOf(all, compare)
		low, high := 0, len(all) // all[:low] < pivot, all[high:] > pivot
		for i := 0; i < high; {
			switch c := compare(all[i], pivot); {
			case c < 0:
				all[low], all[i] = all[i], all[low]
				low++
				i++
			case c > 0:
				high--
				all[high], all[i] = all[i], all[high]
			default:
				i++
			}
		}
		switch {
		case to <= low:
			all = all[:low]
		case from >= high:
			all, from, to = all[high:], from-high, to-high
		default: // it is on both sides of the pivot
			sortPart(all[:low], min(from, low), low, compare)
			sortPart(all[high:], 0, max(to-high, 0), compare)
			return
		}
	}
}

// medianOf is the median of nine spread over a list.
func medianOf(all []place, compare func(a, b place) int) place {
	var some [9]place
	for i := range some {
		some[i] = all[i*(len(all)-1)/(len(some)-1)]
	}
	slices.SortFunc(some[:], compare)
	return some[len(some)/2]
}

// comparePrefixes puts a prefix before what lies within it, as pkey.compare does.
func comparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}
