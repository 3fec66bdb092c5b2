package main

import (
	"bytes"
	"strings"
	"testing"

	"banmesh/mesh/control"
)

func TestStatsHaveColumnsForWhatIsKnown(t *testing.T) {
	for _, tt := range []struct {
		networks []control.NetShare
		want     bool
	}{
		{[]control.NetShare{{Prefix: "203.0.113.0/24"}}, false},
		{[]control.NetShare{{Prefix: "203.0.113.0/24"}, {Prefix: "198.51.100.0/24", Place: control.Place{Country: "DE"}}}, true},
	} {
		var out bytes.Buffer
		if err := newConsole(nil, &out, nil, func(string) string { return "" }).printStats(control.Stats{Networks: tt.networks}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), "COUNTRY"); got != tt.want {
			t.Errorf("%+v: a column for the country: %v\n%s", tt.networks, got, &out)
		}
	}
}

func TestMembersStandAsPeopleOrderThem(t *testing.T) {
	var out bytes.Buffer
	if err := newConsole(nil, &out, nil, func(string) string { return "" }).printMembers([]control.Member{{Name: "router10"}, {Name: "router2"}}); err != nil {
		t.Fatal(err)
	}
	if a, b := strings.Index(out.String(), "router2"), strings.Index(out.String(), "router10"); a > b {
		t.Errorf("router10 stands before router2:\n%s", &out)
	}
}
