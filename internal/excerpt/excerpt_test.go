package excerpt

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestALineIsPlainAndShort(t *testing.T) {
	for in, want := range map[string]string{
		"": "", " two\n\tlines ": "two lines", "\x1b[2Jred\u009b": "[2Jred", "bad \xff byte": "bad ? byte", "r\u202eevil\u2028next": "r?evil next",
		strings.Repeat("a", 20): strings.Repeat("a", 20), strings.Repeat("a", 21): strings.Repeat("a", 20) + "…",
		strings.Repeat("a", 19) + "é": strings.Repeat("a", 19) + "…",
	} {
		if got := Line(in, 20); got != want {
			t.Errorf("Line(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCutKeepsRunesWhole(t *testing.T) {
	const s = "aé€😀"
	for n := range len(s) + 2 {
		if got := Cut(s, n); len(got) > n || !utf8.ValidString(got) || !strings.HasPrefix(s, got) {
			t.Errorf("Cut(%q, %d) = %q", s, n, got)
		}
	}
}

func TestALoneFurtherNameIsNamed(t *testing.T) {
	all := []string{"a", "b", "c", "d"}
	for few, want := range map[int]string{4: "a, b, c, d", 3: "a, b, c, d", 2: "a, b and 2 more"} {
		if got := First(all, few); got != want {
			t.Errorf("First(%v, %d) = %q, want %q", all, few, got, want)
		}
	}
	if one, two := Count(1, "ban", "bans"), Count(2, "ban", "bans"); one != "1 ban" || two != "2 bans" {
		t.Errorf("Count: %q and %q", one, two)
	}
}
