package history

import (
	"cmp"
	"errors"
	"iter"
	"math/bits"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"banmesh/store"
)

// Statistics count what was banned.
type Statistics struct {
	Live, Past      int // offences whose ban is live, and those whose ban is over
	Lifts, Expiries int
	Jails, Routers  []NamedCount
	Networks        []NetworkCount   // by /24 and /48, or by the ban itself if that is wider
	Repeaters       []RepeatOffender // prefixes that were banned more than once
	Days            []DayCount       // in order; only days with events
	Distinct        int              // networks
	Since           store.Millis     // when the earliest of them was seen; 0 for none
}

// NamedCount is the number of offences of one jail or router.
type NamedCount struct {
	Name       string
	Live, Past int
}

// NetworkCount is the number of offences from a network.
type NetworkCount struct {
	Prefix     netip.Prefix
	Live, Past int
}

// RepeatOffender is a prefix that was banned more than once.
type RepeatOffender struct {
	Prefix netip.Prefix
	Times  int
	Live   bool
	Last   store.Millis // start of its last offence
}

// DayCount is one day in UTC.
type DayCount struct {
	Day                   time.Time
	Bans, Lifts, Expiries int
}

// SumQuery says what Sums counts.
type SumQuery struct {
	Since store.Millis // counts what was seen then or later, and live bans that began then or later; 0 counts all
	Top   int          // largest number of entries in each list; 0 means 10
	// Each is called with every network before the list is cut. It may be nil.
	Each func(NetworkCount)
}

// Sums counts the offences of the history and the live ones, each once.
func (h *History) Sums(q SumQuery) (Statistics, error) {
	q.Top = cmp.Or(q.Top, 10)
	t := newTally()
	// The live ones first: the history holds most of them too, and counts only those that are not among them.
	live := t.live(h.cfg.Set.LiveBans(), q.Since)
	parts, err := h.tallies(q.Since, live)
	if err != nil {
		return Statistics{}, err
	}
	sortHosts(t.hosts)
	for _, part := range parts {
		t.merge(part)
	}
	s := t.sums
	s.Jails, s.Routers = top(t.jails, q.Top), top(t.routers, q.Top)
	t.finish(q, &s)
	for _, d := range t.days {
		s.Days = append(s.Days, *d)
	}
	slices.SortFunc(s.Days, func(a, b DayCount) int { return a.Day.Compare(b.Day) })
	return s, nil
}

// tallies counts the blocks of the history on all processors, without offences that are live.
func (h *History) tallies(since store.Millis, live *numbers) ([]*tally, error) {
	type part struct {
		b    block
		from int
	}
	blocks := make(chan part, 64)
	parts := make([]*tally, min(runtime.GOMAXPROCS(0), maxTallies))
	failed := make([]error, len(parts))
	var working sync.WaitGroup
	for i := range parts {
		parts[i] = newTally()
		working.Go(func() {
			failed[i] = guard(func() error {
				for p := range blocks {
					parts[i].block(&p.b, p.from, since, live)
					runtime.Gosched() // a new ban must not wait for the statistics
				}
				sortHosts(parts[i].hosts)
				return nil
			})
			for range blocks { // after a fault
			}
		})
	}
	finish := sync.OnceFunc(func() {
		close(blocks)
		working.Wait()
	})
	err := h.scanUntil(since, func(b *block, from int) bool {
		blocks <- part{*b, from}
		return true
	}, finish)
	finish()
	return parts, errors.Join(append(failed, err)...)
}

// maxTallies bounds the processors that Sums uses.
const maxTallies = 4

// tally is the working state of Sums.
type tally struct {
	sums           Statistics // without its lists
	jails, routers map[string]*NamedCount
	hosts          []uint64                         // nearly all offences: those of single IPv4 addresses, packed by hostOf to be sorted
	networks       map[netip.Prefix]*NetworkCount   // of the other offences
	prefixes       map[netip.Prefix]*RepeatOffender // of the other offences
	days           map[int64]*DayCount
	today          *DayCount // the day of the last event
	todayAt        int64
}

// newTally collects everything in one walk; only the first of each list are kept of it in the end.
func newTally() *tally {
	return &tally{
		jails: make(map[string]*NamedCount), routers: make(map[string]*NamedCount), days: make(map[int64]*DayCount),
		networks: make(map[netip.Prefix]*NetworkCount), prefixes: make(map[netip.Prefix]*RepeatOffender),
	}
}

// live counts the live bans since a time and returns all of them.
func (t *tally) live(bans iter.Seq[store.LiveBan], since store.Millis) *numbers {
	type name struct {
		hash uint64
		live int
	}
	jails, routers := make(map[string]*name), make(map[string]*name)
	named := func(m map[string]*name, s string) *name {
		n := m[s]
		if n == nil {
			n = &name{hash: hashes.text(s)}
			m[s] = n
		}
		return n
	}
	var all numbers
	for b := range bans {
		k, jail, router := keyOf(b.Prefix), named(jails, b.Jail), named(routers, b.Origin)
		if !all.add(hashes.of(k, router.hash, jail.hash, b.Start)) || b.Start < since {
			continue // the same offence from another log of its router, or one that is too old
		}
		t.sums.Live++
		jail.live++
		router.live++
		t.offence(k, b.Start, true)
		t.day(b.Start).Bans++
	}
	for to, names := range map[*map[string]*NamedCount]map[string]*name{&t.jails: jails, &t.routers: routers} {
		for s, n := range names {
			if n.live > 0 {
				count(*to, s).Live = n.live
			}
		}
	}
	return &all
}

// merge adds what another tally has counted. The hosts of both must be sorted.
func (t *tally) merge(o *tally) {
	s, p := &t.sums, &o.sums
	s.Live, s.Past, s.Lifts, s.Expiries = s.Live+p.Live, s.Past+p.Past, s.Lifts+p.Lifts, s.Expiries+p.Expiries
	if s.Since == 0 || p.Since != 0 && p.Since < s.Since {
		s.Since = p.Since
	}
	for _, both := range [2][2]map[string]*NamedCount{{t.jails, o.jails}, {t.routers, o.routers}} {
		for name, c := range both[1] {
			sum := count(both[0], name)
			sum.Live, sum.Past = sum.Live+c.Live, sum.Past+c.Past
		}
	}
	for n, d := range o.days {
		sum := t.day(store.Millis(n * dayMillis))
		sum.Bans, sum.Lifts, sum.Expiries = sum.Bans+d.Bans, sum.Lifts+d.Lifts, sum.Expiries+d.Expiries
	}
	for prefix, n := range o.networks {
		sum := t.networkOf(prefix)
		sum.Live, sum.Past = sum.Live+n.Live, sum.Past+n.Past
	}
	for prefix, r := range o.prefixes {
		sum := t.prefixes[prefix]
		if sum == nil {
			t.prefixes[prefix] = r
			continue
		}
		sum.Times, sum.Live, sum.Last = sum.Times+r.Times, sum.Live || r.Live, max(sum.Last, r.Last)
	}
	t.hosts = mergeHosts(t.hosts, o.hosts)
}

// mergeHosts merges two lists that are sorted by address.
func mergeHosts(a, b []uint64) []uint64 {
	if len(a) == 0 {
		return b
	}
	out := make([]uint64, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0]>>hostShift <= b[0]>>hostShift {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

const dayMillis = 24 * 60 * 60 * 1000

// day remembers the last one: events come nearly in order.
func (t *tally) day(at store.Millis) *DayCount {
	n := int64(at) / dayMillis
	if t.today != nil && t.todayAt == n {
		return t.today
	}
	d := t.days[n]
	if d == nil {
		d = &DayCount{Day: time.UnixMilli(n * dayMillis).UTC()}
		t.days[n] = d
	}
	t.today, t.todayAt = d, n
	return d
}

func count(m map[string]*NamedCount, name string) *NamedCount {
	c := m[name]
	if c == nil {
		c = &NamedCount{Name: name}
		m[name] = c
	}
	return c
}

// block counts one block of the history, without offences that are live.
func (t *tally) block(b *block, from int, since store.Millis, live *numbers) {
	s := &t.sums
	hash := make([]uint64, len(b.texts))
	jails, routers := make([]int, len(b.texts)), make([]int, len(b.texts))
	for i, text := range b.texts {
		hash[i] = hashes.text(text)
	}
	for i := from; i < b.len(); i++ {
		e := b.at(i)
		seen := e.seen()
		if seen < since {
			continue
		}
		if s.Since == 0 || seen < s.Since {
			s.Since = seen
		}
		switch e.kind() {
		case store.EventLift:
			s.Lifts++
			t.day(seen).Lifts++
			continue
		case store.EventExpire:
			s.Expiries++
			t.day(seen).Expiries++
			continue
		case store.EventBan:
		default:
			continue
		}
		k := e.key()
		if live.has(hashes.of(k, hash[e.origin()], hash[e.jail()], e.start())) {
			continue
		}
		s.Past++
		jails[e.jail()]++
		routers[e.origin()]++
		t.offence(k, e.start(), false)
		t.day(seen).Bans++
	}
	for i, text := range b.texts {
		if jails[i] > 0 {
			count(t.jails, text).Past += jails[i]
		}
		if routers[i] > 0 {
			count(t.routers, text).Past += routers[i]
		}
	}
}

// An offence of a single IPv4 address in one word: the address, whether it is live, and minutes since 1970.
const (
	hostShift  = 32
	hostLive   = 1 << 31
	minuteMask = 1<<31 - 1
)

// offence counts one offence for its prefix and its network.
func (t *tally) offence(k key, start store.Millis, live bool) {
	if k.bits == 128 && k.is4() {
		h := k.lo<<hostShift | uint64(start/60_000)&minuteMask
		if live {
			h |= hostLive
		}
		t.hosts = append(t.hosts, h)
		return
	}
	p := k.prefix()
	r := t.prefixes[p]
	if r == nil {
		r = &RepeatOffender{Prefix: p}
		t.prefixes[p] = r
	}
	// To the minute, as the packed hosts have it, so that both are comparable.
	r.add(start/60_000*60_000, live)
	n := t.networkOf(p)
	if live {
		n.Live++
	} else {
		n.Past++
	}
}

// add counts offences, not records: prolongations are not given to it.
func (r *RepeatOffender) add(start store.Millis, live bool) {
	r.Times++
	r.Live = r.Live || live
	r.Last = max(r.Last, start)
}

// networkOf returns the counts of the /24 or /48 around a prefix, or of the prefix itself if it is wider.
func (t *tally) networkOf(p netip.Prefix) *NetworkCount {
	width := 48
	if p.Addr().Is4() {
		width = 24
	}
	if p.Bits() > width {
		p, _ = p.Addr().Prefix(width)
	}
	n := t.networks[p]
	if n == nil {
		n = &NetworkCount{Prefix: p}
		t.networks[p] = n
	}
	return n
}

// finish builds the lists of networks and repeaters. The hosts must be sorted.
func (t *tally) finish(q SumQuery, s *Statistics) {
	networks := best[NetworkCount]{n: q.Top, before: func(a, b *NetworkCount) int {
		return cmp.Or(b.Live+b.Past-a.Live-a.Past, comparePrefixes(a.Prefix, b.Prefix))
	}}
	repeaters := best[RepeatOffender]{n: q.Top, before: func(a, b *RepeatOffender) int {
		return cmp.Or(b.Times-a.Times, comparePrefixes(a.Prefix, b.Prefix))
	}}
	network := func(n *NetworkCount) {
		s.Distinct++
		networks.offer(n)
		if q.Each != nil {
			q.Each(*n)
		}
	}
	repeater := func(r *RepeatOffender) {
		if r.Times > 1 {
			repeaters.offer(r)
		}
	}
	var n NetworkCount // shared, because what is passed to offer escapes to the heap
	var r RepeatOffender
	for from := 0; from < len(t.hosts); {
		net := t.hosts[from] >> (hostShift + 8)
		n = NetworkCount{}
		for from < len(t.hosts) && t.hosts[from]>>(hostShift+8) == net {
			host := t.hosts[from] >> hostShift
			r = RepeatOffender{}
			for ; from < len(t.hosts) && t.hosts[from]>>hostShift == host; from++ {
				h := t.hosts[from]
				live := h&hostLive != 0
				if r.add(store.Millis(h&minuteMask)*60_000, live); live {
					n.Live++
				} else {
					n.Past++
				}
			}
			if r.Times > 1 {
				r.Prefix = key{0, 0xffff<<32 | host, 128}.prefix()
				repeater(&r)
			}
		}
		n.Prefix = key{0, 0xffff<<32 | net<<8, 96 + 24}.prefix()
		// Bans of a part of this /24, or of all of it, were counted apart from those of single addresses.
		if other := t.networks[n.Prefix]; other != nil {
			n.Live, n.Past = n.Live+other.Live, n.Past+other.Past
			delete(t.networks, n.Prefix)
		}
		network(&n)
	}
	for _, n := range t.networks {
		network(n)
	}
	for _, r := range t.prefixes {
		repeater(r)
	}
	s.Networks, s.Repeaters = networks.list, repeaters.list
}

// sortHosts sorts by address, the upper half of each word. It is a radix sort, since sorting a million by comparison takes
// longer than all the rest.
func sortHosts(a []uint64) {
	const digit = 11
	spare := make([]uint64, len(a))
	for shift := hostShift; shift < 64; shift += digit {
		var at [1 << digit]int
		for _, v := range a {
			at[v>>shift&(1<<digit-1)]++
		}
		sum := 0
		for i, n := range at {
			at[i], sum = sum, sum+n
		}
		for _, v := range a {
			d := v >> shift & (1<<digit - 1)
			spare[at[d]] = v
			at[d]++
		}
		a, spare = spare, a
	}
	copy(spare, a) // after three passes the sorted words are in the former spare
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits())
}

// best keeps the first n, in the order of before, of what it is offered.
type best[T any] struct {
	n      int
	before func(a, b *T) int
	list   []T
}

// offer keeps the n best in order, without sorting all.
func (b *best[T]) offer(v *T) {
	if len(b.list) == b.n && b.before(v, &b.list[b.n-1]) > 0 {
		return
	}
	at, _ := slices.BinarySearchFunc(b.list, v, func(e T, v *T) int { return b.before(&e, v) })
	b.list = slices.Insert(b.list, at, *v)
	b.list = b.list[:min(b.n, len(b.list))]
}

// top orders by count and then by name, so that equal ones do not change places from look to look.
func top(m map[string]*NamedCount, n int) []NamedCount {
	out := make([]NamedCount, 0, len(m))
	for _, c := range m {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b NamedCount) int { return cmp.Or(b.Live+b.Past-a.Live-a.Past, cmp.Compare(a.Name, b.Name)) })
	return slices.Clip(out[:min(n, len(out))])
}

// numbers is a set of nonzero numbers with open addressing; a map takes five times as long for a million look-ups. Nearly all
// look-ups miss, and the sieve, small enough for the cache, answers most of those. The sieve is indexed by a number's upper
// bits, the slots by its lower ones.
type numbers struct {
	slots []uint64
	sieve []uint64 // bits, eight for each slot
	shift uint
	n     int
}

// find probes linearly and returns the number's slot, or the empty one in which it would stand.
func (s *numbers) find(n uint64) int {
	mask := len(s.slots) - 1
	for i := int(n) & mask; ; i = (i + 1) & mask {
		if v := s.slots[i]; v == n || v == 0 {
			return i
		}
	}
}

// has asks the sieve first, a bit for each range of hashes: most numbers are not there, and the sieve fits a
// processor's cache where the slots do not.
func (s *numbers) has(n uint64) bool {
	if len(s.slots) == 0 {
		return false
	}
	at := n >> s.shift
	return s.sieve[at>>6]>>(at&63)&1 != 0 && s.slots[s.find(n)] == n
}

// put stores a number in its free slot.
func (s *numbers) put(i int, n uint64) {
	s.slots[i] = n
	at := n >> s.shift
	s.sieve[at>>6] |= 1 << (at & 63)
}

// add adds a number and reports whether it is new.
func (s *numbers) add(n uint64) bool {
	// At most half full: with linear probing a miss walks to the next free slot, and nearly all look-ups miss.
	if s.n*2 >= len(s.slots) {
		old := s.slots
		s.slots = make([]uint64, max(1024, 4*len(old)))
		s.sieve = make([]uint64, len(s.slots)/8)
		s.shift = 64 - uint(bits.TrailingZeros(uint(8*len(s.slots))))
		for _, v := range old {
			if v != 0 {
				s.put(s.find(v), v)
			}
		}
	}
	i := s.find(n)
	if s.slots[i] == n {
		return false
	}
	s.put(i, n)
	s.n++
	return true
}
