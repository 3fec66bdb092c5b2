package enforce

import (
	"slices"
	"testing"
)

// TestAJobKnowsWhereItIsOvertaken: by one change as by many, which may overlap.
func TestAJobKnowsWhereItIsOvertaken(t *testing.T) {
	at := func(from, to uint64) span { return span{addr{0, from}, addr{0, to}, 0} }
	var j job
	j.touch(lists{v4: {at(5, 5)}})
	if want := []span{at(5, 5)}; !slices.Equal(j.dirty[v4], want) || len(j.dirty[v6]) > 0 {
		t.Errorf("after one change: %v, want %v", j.dirty, want)
	}
	j.touch(lists{v4: {at(1, 2), at(4, 7)}, v6: {at(3, 3)}})
	if want := []span{at(1, 2), at(4, 7)}; !slices.Equal(j.dirty[v4], want) || !slices.Equal(j.dirty[v6], []span{at(3, 3)}) {
		t.Errorf("after three more: %v, want %v", j.dirty, want)
	}
	del, add := lists{v4: {at(5, 6), at(20, 20)}}, lists{v4: {at(8, 8)}}
	if !skip(&del, &add, j.dirty) || !slices.Equal(del[v4], []span{at(20, 20)}) || !slices.Equal(add[v4], []span{at(8, 8)}) {
		t.Errorf("left to be done: %v and %v", del[v4], add[v4])
	}
}
