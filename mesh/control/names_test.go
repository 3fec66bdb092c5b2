package control

import (
	"slices"
	"testing"
)

func TestNamesStandAsPeopleOrderThem(t *testing.T) {
	want := []string{"1", "02", "2", "10", "a", "router", "router-2a", "router1", "router2", "router2b", "router10", "router10a"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, CompareNames)
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
