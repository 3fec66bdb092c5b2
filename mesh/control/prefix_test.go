package control_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/control"
)

func TestParsePrefix(t *testing.T) {
	for in, want := range map[string]string{
		"203.0.113.7": "203.0.113.7/32", "203.0.113.0/24": "203.0.113.0/24", "2001:db8::1": "2001:db8::1/128", "2001:DB8::/32": "2001:db8::/32",
		"::ffff:203.0.113.7": "203.0.113.7/32", "::ffff:203.0.113.0/120": "203.0.113.0/24", "128.0.0.0/1": "128.0.0.0/1",
	} {
		if got, err := control.ParsePrefix(in); err != nil || got.String() != want {
			t.Errorf("%s: got %v, %v; want %s", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"": "empty", "x": "not an IP", "1.2.3": "not an IP", "1.2.3.4.5": "not an IP", "1.2.3.4/": "length", "1.2.3.4/33": "1 to 32", "::/129": "1 to 128",
		"0.0.0.0/0": "whole internet", "::/0": "whole internet", "1.2.3.4/00": "length", "1.2.3.4/+8": "length", "fe80::1%eth0": "zone", "fe80::%1/64": "zone",
		"::ffff:0.0.0.0/95": "mixes", "::ffff:0.0.0.0/96": "whole internet", "01.2.3.4": "not an IP", " 1.2.3.4": "not an IP", "1.2.3.4 ": "not an IP",
		"localhost": "host names", "1.2.3.4/24/8": "not an IP", strings.Repeat("1", 1<<20): "(1048576 bytes)",
	} {
		if got, err := control.ParsePrefix(in); err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 300 {
			t.Errorf("%.40s: got %v, %v; want an error with %q", in, got, err, want)
		}
	}
	var host *control.HostBitsError
	if _, err := control.ParsePrefix("2001:db8::1/64"); !errors.As(err, &host) || host.Masked.String() != "2001:db8::/64" {
		t.Errorf("host bits: got %v", err)
	}
}

func TestWideIsWhatNeedsForce(t *testing.T) {
	for in, want := range map[string]bool{"10.0.0.0/15": true, "10.0.0.0/16": false, "2001:db8::/31": true, "2001:db8::/32": false, "203.0.113.7/32": false} {
		if got := control.Wide(netip.MustParsePrefix(in)); got != want {
			t.Errorf("%s: got %v, want %v", in, got, want)
		}
	}
}

func TestPrefixesAreReadAsJSONReadsThem(t *testing.T) {
	for in, want := range map[string]string{
		`[]`: `[]`, `null`: `[]`, ` [ "1.2.3.4" ,` + "\n" + `"2001:db8::/32"] `: `["1.2.3.4/32","2001:db8::/32"]`,
	} {
		var ps control.Prefixes
		if err := json.Unmarshal([]byte(in), &ps); err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if got, _ := json.Marshal(ps); string(got) != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
	for _, in := range []string{`{}`, `"1.2.3.4"`, `[1]`, `[["1.2.3.4"]]`, `["1.2.3.4",null]`, `["x"]`, `["1.2.3.4/24"]`, `["1.2.3.\u0034"]`, `["` + strings.Repeat("1", 1000) + `"]`, `[true]`} {
		var ps control.Prefixes
		if err := json.Unmarshal([]byte(in), &ps); err == nil {
			t.Errorf("%.40s: read as %v, want an error", in, ps)
		}
	}
}

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for in, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "600": 600 * time.Second, "1w2d3h4m5s": 9*day + 3*time.Hour + 4*time.Minute + 5*time.Second, "1.5h": 90 * time.Minute,
		"1.5d": 36 * time.Hour, "-1": control.Forever, "250ms": 250 * time.Millisecond, "36500d": 36500 * day, "1h1h": 2 * time.Hour,
	} {
		if got, err := control.ParseDuration(in); err != nil || got != want {
			t.Errorf("%s: got %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "0", "0s", "-2", "-1s", "-1h", "1y", "h", "1h-1m", "1h 1m", "1.5", "1e3", "1e3s", "+1h", "soon", "36501d", "99999999999999999999", "1.2.3h",
		"NaN", "Inf", "infh", "0x10s", "1h30", strings.Repeat("1h", 1000), ".h", "1h.", "0.1ns",
	} {
		if got, err := control.ParseDuration(in); err == nil {
			t.Errorf("%q: got %v, want an error", in, got)
		} else if len(err.Error()) > 250 {
			t.Errorf("%.40q: the error has %d bytes", in, len(err.Error()))
		}
	}
}

func TestTimesAreRFC3339WithMilliseconds(t *testing.T) {
	type both struct {
		T control.Time
		U control.Until
	}
	for in, want := range map[string]both{
		`{"T":"2026-01-02T03:04:05.678Z","U":"2026-01-02T03:04:05.000Z"}`: {1767323045678, 1767323045000},
		`{"T":null,"U":null}`: {0, control.Never},
	} {
		var got both
		if err := json.Unmarshal([]byte(in), &got); err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", in, got, err, want)
		}
		if back, _ := json.Marshal(want); string(back) != in {
			t.Errorf("%+v: got %s, want %s", want, back, in)
		}
	}
	for _, in := range []string{`"yesterday"`, `1767323045`, `"1969-12-31T23:59:59Z"`, `""`, `{}`, `"` + strings.Repeat("2", 10000) + `"`} {
		var v control.Time
		var u control.Until
		if json.Unmarshal([]byte(in), &v) == nil || json.Unmarshal([]byte(in), &u) == nil {
			t.Errorf("%.40s: read as %v and %v, want errors", in, v, u)
		}
	}
	var zoned control.Time
	if err := json.Unmarshal([]byte(`"2026-01-02T04:04:05.678+01:00"`), &zoned); err != nil || zoned != 1767323045678 {
		t.Errorf("another zone: got %d, %v", zoned, err)
	}
}

func TestCheckJail(t *testing.T) {
	for _, good := range []string{"sshd", "nginx-http.auth", "nginx:auth", "web server", "Wordpress (soft)", "jäil", "a;b", "$(x)", strings.Repeat("a", 255)} {
		if err := control.CheckJail(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "a\n", "a\x00", "\xff", "a\u202eb", strings.Repeat("a", 256)} {
		if control.CheckJail(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// FuzzWord reads anything as a prefix and as a duration.
func FuzzWord(f *testing.F) {
	for _, s := range []string{
		"203.0.113.7", "2001:db8::/32", "::ffff:1.2.3.4/128", "1.2.3.4/24", "fe80::1%a", "0.0.0.0/0",
		"1h", "-1", "600", "1w2d", "1.5h", "0",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := control.ParseDuration(s)
		if err == nil && d != control.Forever && (d <= 0 || d > 100*365*24*time.Hour) {
			t.Errorf("%q is accepted as %v", s, d)
		}
		if goes, e := time.ParseDuration(s); e == nil && err == nil && (goes-d).Abs() > time.Microsecond && s != "-1" {
			t.Errorf("%q: got %v, Go reads %v", s, d, goes)
		}
		p, err := control.ParsePrefix(s)
		if err != nil {
			if len(err.Error()) > 500 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			return
		}
		if p != p.Masked() || p.Bits() == 0 || p.Addr().Zone() != "" || p.Addr().Is4In6() {
			t.Errorf("%q is accepted as %v", s, p)
		}
		if again, err := control.ParsePrefix(control.Format(p)); err != nil || again != p {
			t.Errorf("%v is written as %s and read as %v, %v", p, control.Format(p), again, err)
		}
	})
}

func FuzzPrefixes(f *testing.F) {
	for _, s := range []string{`["1.2.3.4"]`, `[]`, `null`, `["1.2.3.4","::1/128"]`, `[1,["a"]]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var ps control.Prefixes
		if json.Unmarshal([]byte(s), &ps) != nil {
			return
		}
		// What is accepted is an array of strings, each of them a prefix.
		var words []string
		if err := json.Unmarshal([]byte(s), &words); err != nil || len(words) != len(ps) {
			t.Fatalf("%q is accepted as %v, and is %v, %v", s, ps, words, err)
		}
		for i, w := range words {
			if p, err := control.ParsePrefix(w); err != nil || p != ps[i] {
				t.Errorf("%q is accepted as %v, and is %v, %v", w, ps[i], p, err)
			}
		}
	})
}

func TestOneLineSteersNothing(t *testing.T) {
	if got := control.OneLine("a\n\x1b[2Jb\u202ec\u2028d"); got != "a [2Jb?c d" {
		t.Errorf("%q", got)
	}
	if got := control.OneLine(strings.Repeat("é", 2000)); len(got) != 2003 {
		t.Errorf("%d bytes", len(got))
	}
}
