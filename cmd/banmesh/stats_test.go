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
