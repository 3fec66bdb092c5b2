package warning

import (
	"slices"
	"testing"

	"banmesh/store"
)

func TestUnreadableRecordsAreCountedAndNamed(t *testing.T) {
	record := func(origin string, seq uint64, inFile bool) store.Unreadable {
		return store.Unreadable{Dot: store.Dot{Log: store.LogID{Origin: origin, Epoch: 0xbeef}, Seq: seq}, InFile: inFile, Reason: "time out of bounds"}
	}
	got := Unreadable("router1", []store.Unreadable{
		record("router1", 5, true), record("router1", 7, true), record("router2", 3, true), record("router3", 0, false),
	})
	want := []string{
		"set aside in the store file, while all else counts: 2 unreadable records of this router (the first: number 5 of router1/000000000000beef: time out of bounds); ban again what `banmesh list --origin router1` misses",
		"set aside in the store file, while all else counts: 1 unreadable record of router2 (number 3 of router2/000000000000beef: time out of bounds); the others send it again if they have it whole",
		"set aside, while all else counts: 1 unreadable record of router3 (time out of bounds); where `banmesh members` shows two versions, upgrade the older one and restart its agent",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Unreadable("router1", nil); got != nil {
		t.Errorf("nothing is unreadable, and status says %q", got)
	}
}
