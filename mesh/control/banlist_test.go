package control_test

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"banmesh/mesh/control"
)

func TestBansOfACallKeepTheirAttributes(t *testing.T) {
	for _, bans := range []control.OneBans{
		{{Prefix: netip.MustParsePrefix("203.0.113.7/32"), Jail: "sshd", Start: 1767225600000, Until: control.Never, Failures: 5, Reason: "a, b"}},
		{{Prefix: netip.MustParsePrefix("2001:db8::/48"), Until: 1767225600001}, {Prefix: netip.MustParsePrefix("203.0.113.0/24"), Jail: "web", Until: 1}},
		{{Prefix: netip.MustParsePrefix("203.0.113.7/32"), Jail: "sshd", Until: control.Never, Reason: `Ünïcode "and" <signs>`}},
	} {
		b, err := json.Marshal(control.BanCall{Each: bans})
		if err != nil {
			t.Fatal(err)
		}
		var fast, slow control.BanCall
		if err := json.Unmarshal(b, &fast); err != nil || !reflect.DeepEqual(fast.Each, bans) {
			t.Errorf("%s comes back as %+v, %v", b, fast, err)
		}
		loose := strings.ReplaceAll(string(b), ",\"", " , \"")
		if err := json.Unmarshal([]byte(loose), &slow); err != nil || !reflect.DeepEqual(slow.Each, bans) {
			t.Errorf("%s comes back as %+v, %v", loose, slow, err)
		}
	}
	for _, bad := range []string{
		`{"each":[{"prefix":"203.0.113.7/24","until":null}]}`, `{"each":[{"prefix":"x","until":null}]}`, `{"each":{}}`,
		`{"each":[{"until":null}]}`, `{"each":[{"prefix":"203.0.113.7"}]}`, `{"each":[{"prefix":"203.0.113.7","until":null}],"prefixes":["203.0.113.8"]}`,
		`{"each":[{"prefix":"203.0.113.7","until":null,"reason":"a\nb"}]}`, `{"each":[]}`, `{"each":[{"prefix":"203.0.113.7","until":null,"failures":-1}]}`,
	} {
		var c control.BanCall
		if err := json.Unmarshal([]byte(bad), &c); err == nil && c.Validate() == nil {
			t.Errorf("%s is taken as %+v", bad, c)
		}
	}
}

func TestACallIsReadAsItsJSON(t *testing.T) {
	bans := `"each":[{"prefix":"203.0.113.7/32","jail":"sshd","start":null,"until":null,"failures":5,"reason":"a"},` +
		`{"prefix":"203.0.113.8/32","jail":"sshd","start":"2026-01-01T00:00:00.000Z","until":null,"failures":0,"reason":""}]}`
	for text, taken := range map[string]bool{
		`{"prefixes":[],"force":true,"dry_run":true,` + bans: true, `{"prefixes":[],"reason":"\",\"each\":[",` + bans: true,
		`{` + bans: false, `{"prefixes":[],"x":{"y":1,` + bans: false, `{"prefixes":[],` + bans + `}`: false, `{"prefixes":[],"each":[]`: false,
	} {
		var fast, slow control.BanCall
		if fast.ReadJSON([]byte(text)) != taken {
			t.Errorf("%s: taken %v, want %v", text, !taken, taken)
		}
		if err := json.Unmarshal([]byte(text), &slow); taken && (err != nil || !reflect.DeepEqual(fast, slow)) {
			t.Errorf("%s is read as %+v, want %+v, %v", text, fast, slow, err)
		}
		if !taken && !reflect.DeepEqual(fast, control.BanCall{}) {
			t.Errorf("%s is refused and leaves %+v", text, fast)
		}
	}
}

func TestReadBansTakesEveryFormOfTheArray(t *testing.T) {
	const one = `{"prefix":"203.0.113.7/32","effective":true,"until":null,"committed":false,"records":[{"origin":"a","jail":"sshd","start":null,"until":null,"failures":0,"reason":""}]}`
	for text, want := range map[string]int{
		"[]": 0, "[\n]\n": 0, "[" + one + "\n]\n": 1, "[" + one + "\n," + one + "\n]": 2, "[" + one + "," + one + "]": 2, "[\n  " + one + ",\n " + one + " ]\n\n": 2,
		"[" + one + "\n]\n[]": -1, "[" + one + "\n": -1, "": -1, "[" + one + "\n,{}x]": -1, "[" + one + "\n]\nrest": -1,
	} {
		n := 0
		err := control.ReadBans([]byte(text), func(control.Ban) error { n++; return nil })
		if (err != nil) != (want < 0) || err == nil && n != want || err != nil && n > 0 {
			t.Errorf("%q: %d bans, %v; want %d", text, n, err, want)
		}
	}
}
