package blocklist

import "testing"

func TestACellIsNoFormula(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "sshd": "sshd", "a=b": "a=b", "=HYPERLINK(1)": "'=HYPERLINK(1)", "@SUM(A1)": "'@SUM(A1)", "+1": "'+1", "-1": "'-1", "'quoted'": "''quoted'", "'": "''",
	} {
		got := Cell(in)
		if got != want {
			t.Errorf("Cell(%q) = %q, want %q", in, got, want)
		}
		if back := uncell(got); back != in {
			t.Errorf("uncell(%q) = %q, want %q", got, back, in)
		}
	}
}
