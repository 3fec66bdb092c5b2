package text

import (
	"strings"
	"testing"
)

func TestNamesCanBeShown(t *testing.T) {
	for _, ok := range []string{"r1", "sshd-ddos", "jail with spaces", "café", "ルーター", strings.Repeat("x", 255), "a=b;c", "\U0001F600"} {
		if err := CheckName(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "a\x1b[31m", "a\nb", "a\x7f", "a\u0085", "a\u009b", "\u202eevil", "zero\u200bwidth", "soft\u00adhyphen",
		"line\u2028", "no\u00a0break", "\ufeffbom", "\ue000", "\xff", strings.Repeat("x", 256)} {
		if CheckName(bad) == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestTextsAreCleaned(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "two\nlines\tand\u2028more": "two lines and more", "\x1b[2Jred": "?[2Jred", "\u202eltr": "?ltr", "ü\xffa": "ü?a",
	} {
		if got := Clean(in, 100); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
