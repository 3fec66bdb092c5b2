package main

import (
	"bytes"
	"strings"
	"testing"

	"banmesh/mesh/control"
)

// Where a newer ban has taken the place of the one that was lifted, the number of offences
// would be 0, as if the unban had done nothing.
func TestWhyCountsNoOffencesOfAReplacedBan(t *testing.T) {
	for offences, want := range map[int]string{0: "by router1\n", 1: "by router1 (1 offence)\n", 2: "by router1 (2 offences)\n"} {
		var out bytes.Buffer
		c := newConsole(nil, &out, nil, func(string) string { return "" })
		if err := c.printWhy(control.Why{IP: "203.0.113.7", Known: true, Lifts: []control.WhyLift{{Prefix: "203.0.113.7/32", Origin: "router1", Offences: offences}}}, false); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(out.String(), "  unbanned: 203.0.113.7 "+want) {
			t.Errorf("%d offences:\n%s", offences, out.String())
		}
	}
}
