package main

import (
	"strings"
	"testing"

	"banmesh/mesh/control"
)

// FuzzList reads anything as a published list: what it takes are prefixes that may be banned, nothing of a list that is
// refused is taken, and with skip no line goes without a word.
func FuzzList(f *testing.F) {
	for _, s := range []string{
		"203.0.113.7\n2001:db8::/32 ; SBL1\n# comment\n\n", "\ufeff203.0.113.0/24,extra\r\n", "0.0.0.0/0\n", "203.0.113.7/24\n", "x\ny\n",
		"203.0.113.7", "\x00\xff\n", strings.Repeat("9", maxLine+1),
	} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, list string, mask bool) {
		c := newConsole(strings.NewReader(list), nil, nil, func(string) string { return "" })
		ps, _, err := c.readList("-", mask, false)
		if err != nil && (len(ps) > 0 || len(err.Error()) > 600 || strings.ContainsAny(err.Error(), "\n\x1b\x00")) {
			t.Fatalf("refused with %d prefixes and %.700q", len(ps), err)
		}
		kept, bad, skipErr := newConsole(strings.NewReader(list), nil, nil, func(string) string { return "" }).readList("-", mask, true)
		if err == nil && (skipErr != nil || len(bad) > 0 || len(kept) != len(ps)) {
			t.Fatalf("%d prefixes without a bad line; with skip %d, %d bad, %v", len(ps), len(kept), len(bad), skipErr)
		}
		if err != nil && skipErr == nil && len(bad) == 0 {
			t.Fatalf("refused with %v, and with skip nothing is bad", err)
		}
		var again strings.Builder
		for _, p := range kept {
			if p != p.Masked() || p.Bits() == 0 || p.Addr().Zone() != "" {
				t.Fatalf("took %v", p)
			}
			again.WriteString(control.Format(p) + "\n")
		}
		back, _, err := newConsole(strings.NewReader(again.String()), nil, nil, func(string) string { return "" }).readList("-", false, false)
		if err != nil || len(back) != len(kept) {
			t.Fatalf("%d prefixes are read again as %d, %v", len(kept), len(back), err)
		}
	})
}
