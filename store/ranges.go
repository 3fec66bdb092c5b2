package store

import "slices"

// rangeSet is a set of sequence numbers: sorted ranges that neither overlap nor touch. Seq 0 is never in it.
type rangeSet []seqRange

// watermark is the last number up to which all are held, from 1 on.
func (r rangeSet) watermark() uint64 {
	if len(r) > 0 && r[0].First == 1 {
		return r[0].Last
	}
	return 0
}

// last is the highest number, 0 where there is none.
func (r rangeSet) last() uint64 {
	if len(r) == 0 {
		return 0
	}
	return r[len(r)-1].Last
}

// contains takes time logarithmic in the number of ranges, not of numbers.
func (r rangeSet) contains(seq uint64) bool {
	i := r.search(seq)
	return i < len(r) && r[i].First <= seq
}

// search returns the first range that ends at seq or later.
func (r rangeSet) search(seq uint64) int {
	lo, hi := 0, len(r)
	for lo < hi {
		m := (lo + hi) / 2
		if r[m].Last < seq {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

// add returns r with [a.First, a.Last], in place if possible. It tries the end first, because usually the next number comes.
func (r rangeSet) add(a seqRange) rangeSet {
	if n := len(r); n > 0 {
		if last := &r[n-1]; a.First >= last.First {
			if a.Last <= last.Last {
				return r
			}
			if a.First-1 <= last.Last {
				last.Last = a.Last
				return r
			}
			return append(r, a)
		}
	} else {
		return append(r, a)
	}
	i := r.search(a.First)
	if i > 0 && r[i-1].Last+1 == a.First {
		i--
	}
	j := i
	for j < len(r) && (r[j].First <= a.Last || r[j].First-1 == a.Last) {
		a.First = min(a.First, r[j].First)
		a.Last = max(a.Last, r[j].Last)
		j++
	}
	return slices.Replace(r, i, j, a)
}

// union returns r with all of o.
func (r rangeSet) union(o rangeSet) rangeSet {
	if len(o) <= 8 || r.last() < o[0].First {
		for _, a := range o {
			r = r.add(a)
		}
		return r
	}
	out := make(rangeSet, 0, len(r)+len(o)) // add would move the rest for each
	for len(r)+len(o) > 0 {
		if len(o) == 0 || len(r) > 0 && r[0].First <= o[0].First {
			out, r = out.add(r[0]), r[1:]
		} else {
			out, o = out.add(o[0]), o[1:]
		}
	}
	return out
}

// without returns the numbers of r that are not in o, as a new set.
func (r rangeSet) without(o rangeSet) rangeSet {
	var out rangeSet
	j := 0
	for _, a := range r {
		first := a.First
		for j < len(o) && o[j].Last < first {
			j++
		}
		k := j
		for ; k < len(o) && o[k].First <= a.Last; k++ {
			if o[k].First > first {
				out = append(out, seqRange{first, o[k].First - 1})
			}
			if o[k].Last >= a.Last {
				first = 0
				break
			}
			first = o[k].Last + 1
		}
		if first != 0 && first <= a.Last {
			out = append(out, seqRange{first, a.Last})
		}
	}
	return out
}

// clip returns the numbers of r from first to last, as a new set.
func (r rangeSet) clip(first, last uint64) rangeSet {
	var out rangeSet
	for i := r.search(first); i < len(r) && r[i].First <= last; i++ {
		out = append(out, seqRange{max(first, r[i].First), min(last, r[i].Last)})
	}
	return out
}

func (r rangeSet) equal(o rangeSet) bool { return slices.Equal(r, o) }

// wellFormed reports whether r, received from outside, is a set: sorted, disjoint, without 0.
func (r rangeSet) wellFormed() bool {
	var last uint64
	for i, a := range r {
		if a.First == 0 || a.First > a.Last || (i > 0 && a.First <= last) || a.Last > maxSeq {
			return false
		}
		last = a.Last
	}
	return true
}

// joined returns r, well formed, with touching ranges made one.
func (r rangeSet) joined() rangeSet {
	var out rangeSet
	for _, a := range r {
		out = out.add(a)
	}
	return out
}

// maxSeq is the last number a log may reach: far beyond any honest log, and its successor does not overflow.
const maxSeq = 1 << 62
