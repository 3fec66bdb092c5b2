package store

import "testing"

func TestChunkRecordsCountsWhatAChunkCarries(t *testing.T) {
	b := everyKindChunk()
	if got, want := ChunkRecords(b), len(everyKind()); got != want {
		t.Errorf("ChunkRecords: got %d, want %d", got, want)
	}
	for _, cut := range [][]byte{nil, b[:1], b[:10], append([]byte{99}, b[1:]...), make([]byte, maxChunk+1)} {
		if got := ChunkRecords(cut); got != 0 {
			t.Errorf("ChunkRecords of %d bytes that are no chunk: got %d, want 0", len(cut), got)
		}
	}
}
