package blocklist

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// What the scanner reads, encoding/json reads as the same.
func sameAsJSON[T any, P scanned[T]](t *testing.T, text string) (read bool) {
	t.Helper()
	got, ok := scanAll[T, P]([]byte(text))
	if !ok {
		return false
	}
	var want []T
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Errorf("%q is read; encoding/json: %v", text, err)
	} else if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
		t.Errorf("%q is read as %+v, want %+v", text, got, want)
	}
	return true
}

func TestTheScannerReadsCommonListsItself(t *testing.T) {
	for _, text := range []string{
		`[]`, "[\n{ } ]\n", `[{"value":"203.0.113.7","scope":"Ip","type":"ban","duration":"1h","simulated":false}]`,
		`[{"value":"203.0.113.7","simulated":true,"more":{"a":[1,-2.5e3,null,true,{"b":"\u00e9 \\\" é"}],"c":{}}}]`,
	} {
		if !sameAsJSON[decision](t, text) {
			t.Errorf("%q is left to encoding/json", text)
		}
	}
	if !sameAsJSON[alert](t, `[{"id":1,"decisions":[{"value":"203.0.113.7"},{"value":"203.0.113.8"}]},{"decisions":[]}]`) ||
		!sameAsJSON[report](t, `[{"ipAddress":"203.0.113.7","abuseConfidenceScore":100},{"countryCode":"XX"}]`) ||
		!sameAsJSON[feedEntry](t, `[{"prefix":"203.0.113.7/32","until":null},{"until":"2026-03-01T11:00:00.000Z"}]`) ||
		!sameAsJSON[dropped](t, `[{"cidr":"203.0.113.0/24","sblid":"SBL1","rir":"x"},{"type":"metadata","records":2}]`) {
		t.Error("a common form is left to encoding/json")
	}
	deep := strings.Repeat("[", 2*maxDepth) + strings.Repeat("]", 2*maxDepth)
	for _, text := range []string{
		`[{"value":"a\u0062"}]`, `[{"Value":"a"}]`, `[{"value":"é"}]`, `[{"value":7}]`, `[{"value":null}]`, `[{"x":01}]`, `[{"x":tru}]`, `[{"x":"\q"}]`,
		`[{"x":` + deep + `}]`, `[{}`, `[{}]]`, `[{},]`, `[{"x":1,}]`, `[{"x"}]`, `[{"x":}]`, ``, `[`, `{}`, "[{\"x\":\"a\nb\"}]", `[{"simulated":1}]`, `[{"x":"a]`,
	} {
		if _, ok := scanAll[decision]([]byte(text)); ok {
			t.Errorf("%q is read, want it left to encoding/json", text)
		}
	}
}

func FuzzScanner(f *testing.F) {
	for _, text := range []string{
		`[{"value":"a","scope":"b","x":{"y":[1,"\u00e9",-0.5e-3]}}]`, `[{"decisions":[{"value":"a"}],"decisions":[{"scope":"b"}]}]`,
		`[{"ipAddress":"a","abuseConfidenceScore":-0}]`, `[{"prefix":"a","until":"2026-03-01T11:00:00Z"}]`, `[{"cidr":"a","records":3}]`, "[{\"x\":\x00}]",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		sameAsJSON[decision](t, text)
		sameAsJSON[alert](t, text)
		sameAsJSON[report](t, text)
		sameAsJSON[feedEntry](t, text)
		sameAsJSON[dropped](t, text)
	})
}
