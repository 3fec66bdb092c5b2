package prefixset

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestParseReadsWhatDevicesWrite(t *testing.T) {
	for _, c := range []struct {
		text, want string
		exact, ok  bool
	}{
		{"203.0.113.7/32", "203.0.113.7/32", true, true},
		{"203.0.113.7", "203.0.113.7/32", false, true},
		{"203.0.113.7/24", "203.0.113.0/24", false, true},
		{"2001:DB8::7/128", "2001:db8::7/128", false, true},
		{"2001:db8::7", "2001:db8::7/128", false, true},
		{"fe80::1%eth0", "", false, false},
		{"203.0.113.7/33", "", false, false},
		{"", "", false, false},
	} {
		p, exact, ok := Parse(c.text)
		if ok != c.ok || exact != c.exact || (ok && p.String() != c.want) {
			t.Errorf("Parse(%q) = %v, %v, %v, want %s, %v, %v", c.text, p, exact, ok, c.want, c.exact, c.ok)
		}
	}
}

func TestWideOpenSeesEverySpellingOfEverything(t *testing.T) {
	for text, want := range map[string]bool{
		"0.0.0.0/0": true, "::/0": true, "::ffff:0.0.0.0/96": true, "::ffff:0:0/90": true,
		"128.0.0.0/1": false, "::ffff:10.0.0.0/104": false, "2001:db8::/32": false,
	} {
		if got := WideOpen(netip.MustParsePrefix(text)); got != want {
			t.Errorf("WideOpen(%s) = %v, want %v", text, got, want)
		}
	}
}

func TestSetsBehaveAsSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := func(name string) []netip.Prefix {
			var ps []netip.Prefix
			for _, n := range rapid.SliceOfN(rapid.IntRange(0, 40), 0, 30).Draw(t, name) {
				ps = append(ps, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 24+n%9))
			}
			out, err := Canonical(ps)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		a, b := set("a"), set("b")
		in := func(ps []netip.Prefix, p netip.Prefix) bool { return slices.Contains(ps, p) }
		for _, p := range Plus(a, b) {
			if in(Minus(a, b), p) != (in(a, p) && !in(b, p)) || in(Both(a, b), p) != (in(a, p) && in(b, p)) || !in(a, p) && !in(b, p) {
				t.Fatalf("%v is misplaced among %v and %v", p, a, b)
			}
		}
		for _, ps := range [][]netip.Prefix{Plus(a, b), Minus(a, b), Both(a, b)} {
			if !slices.IsSortedFunc(ps, Compare) || len(slices.Compact(slices.Clone(ps))) != len(ps) {
				t.Fatalf("%v is not a sorted set", ps)
			}
		}
	})
}

func TestSomeStaysOneLine(t *testing.T) {
	var ps []netip.Prefix
	for n := range 7 {
		ps = append(ps, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 32))
	}
	if got, want := Some(ps[:2]), "10.0.0.0/32, 10.0.0.1/32"; got != want {
		t.Errorf("Some = %q, want %q", got, want)
	}
	if got, want := Some(ps), "10.0.0.0/32, 10.0.0.1/32, 10.0.0.2/32, 10.0.0.3/32, 10.0.0.4/32, …"; got != want {
		t.Errorf("Some = %q, want %q", got, want)
	}
}

func TestWideOpenInEverySpelling(t *testing.T) {
	for _, text := range []string{"0.0.0.0/0", "::/0", "10.1.2.3/0", "2001:db8::/0", "0::0/0", "::ffff:0.0.0.0/96", "::ffff:1.2.3.4/96"} {
		p, _, ok := Parse(text)
		if !ok || !WideOpen(p) {
			t.Errorf("%s: read %v as %v, want wide open", text, ok, p)
		}
	}
	for _, text := range []string{"0.0.0.0", "0.0.0.0/1", "::", "::/1", "::ffff:1.2.3.4", "::ffff:1.2.3.4/97"} {
		if p, _, ok := Parse(text); !ok || WideOpen(p) {
			t.Errorf("%s: read %v as %v, want not wide open", text, ok, p)
		}
	}
}
