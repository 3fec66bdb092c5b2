package store

// ChunkRecords returns how many records a chunk claims to carry, for counting, without decoding them. It is 0 for bytes that
// are not a chunk.
func ChunkRecords(b []byte) int {
	if len(b) > maxChunk {
		return 0
	}
	r := &reader{b: b}
	checkVersion(r)
	if n := r.array(4); r.ok() && n != 4 {
		return 0
	}
	r.origin(make(names))
	r.uint()
	r.ranges(maxChunkRanges)
	n := r.array(maxChunk)
	if !r.ok() {
		return 0
	}
	return n
}
