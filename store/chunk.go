package store

// A chunk carries records of one log, in the order of their numbers, and the ranges of numbers it speaks for: a number in
// them without a record is gone, and need not be asked for again. On the wire it is the version byte and then
// [origin, epoch, [first, last, ...], [record, ...]].

const (
	// The bounds are above what an honest sender makes and bound what a made-up message can cost:
	// the parser allocates by the counts it reads.
	wireVersion    = 1
	maxChunk       = 1 << 20 // bytes
	maxChunkRanges = 8192
	maxHeldRanges  = 4096 // of one log; an honest sender leaves fewer holes than that
)

// chunk is a part of one log as it came from another member: which numbers it speaks of, and the
// records that the sender still has of those. A number in ranges without a record tells that the
// record is gone.
type chunk struct {
	log     LogID
	ranges  rangeSet
	items   []item
	unknown int // records of kinds that this version does not know
	bad     []badRecord
	not     rangeSet // numbers of both kinds, and for an unreadable record every number between its neighbours, since its own cannot be trusted
}

// badRecord is an unreadable record among readable ones.
type badRecord struct {
	seq    uint64 // the number it claims; 0 if even that cannot be read
	reason string
}

// checkVersion reads the first byte of everything that is encoded here, on the wire and in the
// file.
func checkVersion(r *reader) {
	if v := r.next(); r.ok() && v != wireVersion {
		r.fail("unknown version")
	}
}

// ranges reads [first, last, ...].
func (r *reader) ranges(max int) rangeSet {
	n := r.array(2 * max)
	if n%2 != 0 {
		r.fail("odd ranges")
		return nil
	}
	set := make(rangeSet, 0, n/2)
	for range n / 2 {
		set = append(set, seqRange{r.uint(), r.uint()})
	}
	if r.ok() && !set.wellFormed() {
		r.fail("ranges out of order")
	}
	return set.joined()
}

// parseChunk decodes a chunk. Each record is encoded again into one buffer: hashes are over this
// member's own encoding, which is canonical, while another implementation's may be longer and mean
// the same. What stands beside an unreadable record still counts; only a chunk whose structure is
// broken fails as a whole.
func parseChunk(b []byte) (*chunk, error) {
	if len(b) > maxChunk {
		return nil, &WireError{"chunk too long"}
	}
	r := &reader{b: b}
	checkVersion(r)
	if n := r.array(4); r.ok() && n != 4 {
		r.fail("not a chunk")
	}
	n := make(names)
	c := &chunk{}
	c.log.Origin = r.origin(n)
	c.log.Epoch = r.uint()
	c.ranges = r.ranges(maxChunkRanges)
	var last uint64
	enc := make([]byte, 0, len(b))
	var ends []int
	gap := false // whether a record after last was unreadable
	for range r.array(maxChunk) {
		var it item
		at := r.b
		ok := r.record(&it, n)
		inPlace := it.seq > last && c.ranges.contains(it.seq)
		if !r.ok() { // set it aside, provided the start of the next one can be found
			bad := badRecord{it.seq, r.reason}
			if !inPlace {
				bad.seq = 0
			}
			*r = reader{b: at}
			if r.skip(); !r.ok() {
				break
			}
			c.bad = append(c.bad, bad)
			gap = true
			continue
		}
		if !inPlace {
			r.fail("record out of order or of range")
			break
		}
		if gap && it.seq > last+1 {
			c.not = c.not.add(seqRange{last + 1, it.seq - 1})
		}
		gap, last = false, it.seq
		if !ok {
			c.unknown++
			c.not = c.not.add(seqRange{it.seq, it.seq})
			continue
		}
		enc = it.append(enc)
		ends = append(ends, len(enc))
		c.items = append(c.items, it)
	}
	if gap {
		c.not = c.not.add(seqRange{last + 1, maxSeq})
	}
	r.end()
	if err := r.err(); err != nil {
		return nil, err
	}
	start := 0
	for i, end := range ends {
		c.items[i].enc = enc[start:end:end]
		start = end
	}
	return c, nil
}

// chunkHeader is what stands before the records.
func chunkHeader(b []byte, id LogID, ranges rangeSet, records int) []byte {
	b = append(b, wireVersion)
	b = appendArray(b, 4)
	b = appendString(b, id.Origin)
	b = appendUint(b, id.Epoch)
	b = appendArray(b, 2*len(ranges))
	for _, g := range ranges {
		b = appendUint(b, g.First)
		b = appendUint(b, g.Last)
	}
	return appendArray(b, records)
}

// headerSize bounds the length of a chunkHeader.
func headerSize(id LogID, ranges int) int { return 1 + 1 + 3 + len(id.Origin) + 9 + 5 + 18*ranges + 5 }
