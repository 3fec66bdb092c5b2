package store

import (
	"container/heap"
	"math"
)

// horizon files records by the minute in which they leave the root, one hour after their retention. It yields the root and the
// content sums of logs at a minute near now without visiting every record, and what is due to expire or be forgotten.
type horizon struct {
	at      int64 // the minute at which past was computed
	total   sum   // all records
	past    sum
	buckets map[int64]*bucket
	minutes minuteHeap // of the buckets; may include some that no longer exist
	expired int64      // every expiry in the buckets before this one has been handled
	early   earlyHeap  // records that expire before their retention ends
}

// bucket holds the records that leave in one minute.
type bucket struct {
	sum  sum
	recs []uint32
	due  Millis // nothing in it expires earlier
}

// never is the bucket of records that never leave.
const never = math.MaxInt64

// leaveMinute is the first minute whose root does not count a record that is retained until r.
func leaveMinute(r Millis) int64 {
	if r > Never-leaveAfter {
		return never
	}
	return floorDiv(int64(r+leaveAfter)+int64(minute)-1, int64(minute))
}

// expiryMinute is the bucket of a record that expires at m and is not retained longer.
func expiryMinute(m Millis) int64 { return leaveMinute(m) }

type minuteHeap []int64

func (h minuteHeap) Len() int           { return len(h) }
func (h minuteHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h minuteHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *minuteHeap) Push(x any)        { *h = append(*h, x.(int64)) }
func (h *minuteHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// earlyEntry names a record by index and number: the number shows whether the index has been reused.
type earlyEntry struct {
	until Millis
	seq   uint64
	index uint32
}

type earlyHeap []earlyEntry

func (h earlyHeap) Len() int           { return len(h) }
func (h earlyHeap) Less(i, j int) bool { return h[i].until < h[j].until }
func (h earlyHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *earlyHeap) Push(x any)        { *h = append(*h, x.(earlyEntry)) }
func (h *earlyHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// enter puts record i, with the given hash, where its retention belongs.
func (s *set) enter(i uint32, hash sum) {
	r, h := s.slab.at(i), &s.hz
	l := s.logs[r.log]
	m := leaveMinute(s.retained(i))
	h.total.add(hash)
	l.total += hash.hi
	// Without a minute to leave in: only the total counts it.
	if m == never {
		return
	}
	b := h.buckets[m]
	if b == nil {
		b = &bucket{due: Never}
		if h.buckets == nil {
			h.buckets = make(map[int64]*bucket)
		}
		h.buckets[m] = b
		heap.Push(&h.minutes, m)
	}
	b.sum.add(hash)
	r.pos = uint32(len(b.recs))
	b.recs = append(b.recs, i)
	b.due = min(b.due, r.until)
	if m <= h.at {
		h.past.add(hash)
		l.past += hash.hi
	}
}

// leave removes record i; its retention must still be the one with which it entered.
func (s *set) leave(i uint32, hash sum) {
	r, h := s.slab.at(i), &s.hz
	l := s.logs[r.log]
	m := leaveMinute(s.retained(i))
	h.total.sub(hash)
	l.total -= hash.hi
	if m == never {
		return
	}
	b := h.buckets[m]
	b.sum.sub(hash)
	last := len(b.recs) - 1
	b.recs[r.pos] = b.recs[last]
	s.slab.at(b.recs[r.pos]).pos = r.pos
	b.recs = b.recs[:last]
	if m <= h.at {
		h.past.sub(hash)
		l.past -= hash.hi
	}
	if last == 0 {
		delete(h.buckets, m)
		// The heap keeps minutes whose bucket has gone, until they come up. Too many of them go at once.
		if len(h.minutes) > 1024+2*len(h.buckets) {
			h.minutes = h.minutes[:0]
			for m := range h.buckets {
				h.minutes = append(h.minutes, m)
			}
			heap.Init(&h.minutes)
		}
	}
}

// between calls f with the buckets of the minutes after lo up to hi, in any order.
func (h *horizon) between(lo, hi int64, f func(*bucket)) {
	if hi <= lo {
		return
	}
	// After a long sleep, or with a clock far ahead, there are more minutes than buckets.
	if uint64(hi)-uint64(lo) > uint64(len(h.buckets)) {
		for m, b := range h.buckets {
			if lo < m && m <= hi {
				f(b)
			}
		}
		return
	}
	// m > lo ends the loop if hi is the greatest number.
	for m := lo + 1; m <= hi && m > lo; m++ {
		if b := h.buckets[m]; b != nil {
			f(b)
		}
	}
}

// root is the sum of the hashes of the records that have not left at the minute.
func (h *horizon) root(m int64) sum {
	s := h.total
	s.sub(h.past)
	h.between(h.at, m, func(b *bucket) { s.sub(b.sum) })
	h.between(m, h.at, func(b *bucket) { s.add(b.sum) })
	return s
}

// shift moves the horizon to a minute.
func (s *set) shift(m int64) {
	h := &s.hz
	var left []uint32
	h.between(h.at, m, func(b *bucket) {
		h.past.add(b.sum)
		for _, i := range b.recs {
			s.logs[s.slab.at(i).log].past += s.hash(i).hi
		}
		left = append(left, b.recs...)
	})
	h.between(m, h.at, func(b *bucket) {
		h.past.sub(b.sum)
		for _, i := range b.recs {
			s.logs[s.slab.at(i).log].past -= s.hash(i).hi
		}
	})
	changed := m != h.at
	h.at = m
	for _, o := range s.origins {
		if changed && o.over[KindLift] > 0 { // more of them count now, see inTime
			s.relimitLater(o)
		}
	}
	for _, i := range left {
		s.noteSpent(i)
		s.dismissLeft(i)
	}
}
