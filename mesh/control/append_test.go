package control

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A list is written by hand for speed; nobody may tell it from encoding/json.
func TestABanIsWrittenAsJSONWritesIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Ban{
			Prefix: rapid.String().Draw(t, "prefix"), Effective: rapid.Bool().Draw(t, "effective"), ReasonNotEffective: rapid.String().Draw(t, "reason"),
			Until: Until(rapid.Int64Range(0, int64(Never)).Draw(t, "until")), Committed: rapid.Bool().Draw(t, "committed"), Held: rapid.Bool().Draw(t, "held"), Records: []Record{},
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
		if got := string(b.AppendJSON(nil)); got != string(want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		var slow, fast Ban
		read := fast.parse(want)
		if err := json.Unmarshal(want, &slow); (err != nil) && read {
			t.Fatalf("%s is read, and is no ban: %v", want, err)
		}
		if read && !reflect.DeepEqual(fast, slow) {
			t.Errorf("%s\nis read as %+v, want %+v", want, fast, slow)
		}
	})
}

func TestTimesAreWrittenAsTheLayoutHasThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.Int64Range(0, lastMillis).Draw(t, "ms")
		if got, want := string(appendMillis([]byte("x"), ms)), "x"+time.UnixMilli(ms).UTC().Format(layout); got != want {
			t.Errorf("%d is written as %s, want %s", ms, got, want)
		}
	})
}

// A list's usual bans must be read the fast way, or nothing is gained.
func TestAUsualBanIsReadTheFastWay(t *testing.T) {
	for _, b := range []Ban{
		{Prefix: "203.0.113.7/32", Effective: true, Until: Never, Records: []Record{{Origin: "router1", Jail: "sshd", Start: 1767225600123, Until: 1767229200123, Failures: 5, Reason: "scans port 22"}}},
		{Prefix: "2001:db8::/48", ReasonNotEffective: "allowed: 2001:db8::/32 by router2", Until: 1767225600000, Committed: true, Records: []Record{}},
		{Prefix: "203.0.113.0/24", Effective: true, Except: Prefixes{netip.MustParsePrefix("203.0.113.1/32"), netip.MustParsePrefix("203.0.113.8/30")}, Until: 1767225600000, Records: []Record{{Origin: "a", Until: Never}, {Origin: "b", Until: Never}},
			WaitsForQuorum: &QuorumWait{Jail: "sshd", Seen: 1, Needed: 2}, Held: true},
	} {
		line := b.AppendJSON(nil)
		var fast, slow Ban
		if err := json.Unmarshal(line, &slow); err != nil {
			t.Fatal(err)
		}
		if !fast.parse(line) || !reflect.DeepEqual(fast, slow) {
			t.Errorf("%s\nis read as %+v, want %+v", line, fast, slow)
		}
	}
}

func FuzzBan(f *testing.F) {
	f.Add([]byte(`{"prefix":"203.0.113.7/32","effective":true,"until":null,"committed":false,"records":[{"origin":"a","jail":"b","start":"2026-02-30T24:00:00.000Z","until":null,"failures":007,"reason":""}]}`))
	f.Add((&Ban{Prefix: "x", Until: 5, Except: Prefixes{netip.MustParsePrefix("::/0")}, Records: []Record{{Until: Never}}, WaitsForQuorum: new(QuorumWait), Held: true}).AppendJSON(nil))
	f.Fuzz(func(t *testing.T, line []byte) {
		var fast, slow Ban
		if !fast.parse(line) {
			return
		}
		if err := json.Unmarshal(line, &slow); err != nil {
			t.Fatalf("%q is read, and is no ban: %v", line, err)
		}
		if !reflect.DeepEqual(fast, slow) {
			t.Errorf("%q is read as %+v, want %+v", line, fast, slow)
		}
	})
}
