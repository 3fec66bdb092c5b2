package control

import (
	"encoding/json"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// A list is written by hand for speed; nobody may tell it from encoding/json.
func TestABanIsWrittenAsJSONWritesIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Ban{
			Prefix: rapid.String().Draw(t, "prefix"), Effective: rapid.Bool().Draw(t, "effective"), ReasonNotEffective: rapid.String().Draw(t, "reason"),
			Until: Until(rapid.Int64Range(0, int64(Never)).Draw(t, "until")), Committed: rapid.Bool().Draw(t, "committed"), Records: []Record{},
		}
		for range rapid.IntRange(0, 2).Draw(t, "except") {
			b.Except = append(b.Except, netip.MustParsePrefix("203.0.113.0/24"))
		}
		for range rapid.IntRange(0, 3).Draw(t, "records") {
			b.Records = append(b.Records, Record{
				Origin: rapid.String().Draw(t, "origin"), Jail: rapid.String().Draw(t, "jail"), Start: Time(rapid.Int64Range(0, 1<<50).Draw(t, "start")),
				Until: rapid.SampledFrom([]Until{Never, 1, 1767225600123}).Draw(t, "end"), Failures: rapid.Uint32().Draw(t, "failures"), Reason: rapid.String().Draw(t, "text"),
			})
		}
		if rapid.Bool().Draw(t, "waits") {
			b.WaitsForQuorum = &QuorumWait{Jail: rapid.String().Draw(t, "quorum of"), Seen: rapid.Int().Draw(t, "seen"), Needed: rapid.Int().Draw(t, "needed")}
		}
		want, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(b.appendJSON(nil)); got != string(want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}
