package store

// ChunkRecords returns how many records a chunk says it carries, without reading them: for counting. Of what is no chunk it
// is 0.
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
