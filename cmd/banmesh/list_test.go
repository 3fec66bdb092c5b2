package main

import (
	"strings"
	"testing"

	"banmesh/mesh/blocklist"
	"banmesh/mesh/control"
)

// FuzzList reads anything as a list of lines: what it takes are prefixes that may be banned, nothing of a list that is
// refused is taken, and with skip no line goes without a word.
func FuzzList(f *testing.F) {
	for _, s := range []string{
		"203.0.113.7\n2001:db8::/32 ; SBL1\n# comment\n\n", "\ufeff203.0.113.0/24,extra\r\n", "0.0.0.0/0\n", "203.0.113.7/24\n", "x\ny\n",
		"203.0.113.7", "\x00\xff\n", strings.Repeat("9", 64<<10+1), "203.0.113.1-203.0.113.9\n",
	} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, list string, mask bool) {
		read := func(list string, o blocklist.Options) (*blocklist.List, error) {
			return newConsole(strings.NewReader(list), nil, nil, func(string) string { return "" }).readList("-", blocklist.Lines, o)
		}
		strict, err := read(list, blocklist.Options{Mask: mask})
		if err != nil && (strict != nil || len(err.Error()) > 600 || strings.ContainsAny(err.Error(), "\n\x1b\x00")) {
			t.Fatalf("refused with %+v and %.700q", strict, err)
		}
		kept, skipErr := read(list, blocklist.Options{Mask: mask, Skip: true})
		if err == nil && (skipErr != nil || len(kept.Bad) > 0 || len(kept.Entries) != len(strict.Entries)) {
			t.Fatalf("%d prefixes without a bad line; with skip %+v, %v", len(strict.Entries), kept, skipErr)
		}
		if err != nil && skipErr == nil && len(kept.Bad) == 0 {
			t.Fatalf("refused with %v, and with skip nothing is bad", err)
		}
		if skipErr != nil {
			return
		}
		var again strings.Builder
		for _, e := range kept.Entries {
			p := e.Prefix
			if p != p.Masked() || p.Bits() == 0 || p.Addr().Zone() != "" {
				t.Fatalf("took %v", p)
			}
			again.WriteString(control.Format(p) + "\n")
		}
		if back, err := read(again.String(), blocklist.Options{}); err != nil || len(back.Entries) != len(kept.Entries) {
			t.Fatalf("%d prefixes are read again as %+v, %v", len(kept.Entries), back, err)
		}
	})
}
