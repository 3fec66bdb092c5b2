package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const half = "./testdata/half"

func TestWhatNoTestHoldsSurvives(t *testing.T) {
	before, err := os.ReadFile(filepath.Join(half, "half.go"))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	got, err := run(t.Context(), options{n: 10, seed: 1, packages: half, tests: []string{half}, skip: "^$"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	_, lines, _ := strings.Cut(out.String(), "\n")
	survived := strings.Split(strings.TrimSpace(lines), "\n")
	slices.Sort(survived)
	want := []string{
		"survived: internal/mutants/testdata/half/half.go Untested: a < b: < → <= (line 8, no test reaches it where it differs)",
		"survived: internal/mutants/testdata/half/half.go Untested: a < b: < → >= (line 8, no test reaches it where it differs)",
	}
	if want := (score{killed: 2, survived: 2}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if !slices.Equal(survived, want) {
		t.Errorf("got %q, want %q", survived, want)
	}
	if after, err := os.ReadFile(filepath.Join(half, "half.go")); err != nil || string(after) != string(before) {
		t.Errorf("the source was changed: %v", err)
	}
}

func TestAListedSurvivorIsExplained(t *testing.T) {
	const survivor, killed = "internal/mutants/testdata/half/half.go Untested: a < b: < → <=", "internal/mutants/testdata/half/half.go Tested: a < b: < → <="
	for _, c := range []struct {
		name, list, failure string
		want                score
	}{
		{"a survivor", "# Half.\n\n" + survivor + "\n\tNobody asks.\n", "", score{killed: 2, explained: 1, survived: 1}},
		{"of a package not mutated", "store/ban.go Ban: a: dropped\n\tNobody asks.\n", "", score{killed: 2, survived: 2}},
		{"one that a test notices", killed + "\n\tNobody asks.\n", killed + " is listed, and --- FAIL: TestTested notices it", score{killed: 1, survived: 2}},
		{"one that is no more", survivor + " (2)\n\tNobody asks.\n", "equal.txt:1: there is no such mutant any more", score{}},
		{"without a reason", survivor + "\n", "equal.txt: no reason for " + survivor, score{}},
		{"a reason alone", "\tNobody asks.\n", "equal.txt:1: want a mutant and below it", score{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := run(t.Context(), options{n: 10, seed: 1, equal: c.list, packages: half, tests: []string{half}, skip: "^$"}, new(strings.Builder))
			if (err == nil) != (c.failure == "") || err != nil && !strings.Contains(err.Error(), c.failure) {
				t.Errorf("got %v, want %q", err, c.failure)
			}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// Every kind of mistake is made where it can be, compiles beside the others, and is the one that is made.
func TestEveryKindOfMistake(t *testing.T) {
	const kinds = "./testdata/kinds"
	root, packages, err := load(t.Context(), kinds)
	if err != nil {
		t.Fatal(err)
	}
	got := new(strings.Builder)
	last, n := "", 0
	for _, m := range packages[0].mutants(root) {
		if where := m.function + ": " + m.text + ":"; where != last {
			fmt.Fprintf(got, "\n%s", where)
			last = where
		}
		fmt.Fprintf(got, " [%s]", m.change)
		n++
	}
	const want = `
package: 5: [5 → 4] [5 → 6]
compare: a >= b: [>= → <]
wait: time.Duration(n) * (2 * time.Second): [* → /]
half: n%2 != 0: [!= → ==]
half: 2: [2 → 1] [2 → 3]
half: 0: [0 → -1] [0 → 1]
half: errOdd: [→ nil]
half: n / 2: [/ → *]
half: 2: [2 → 1] [2 → 3]
sum: 0: [0 → -1] [0 → 1]
sum: list = append(list, n): [dropped]
sum: n < 0 || n == kept && !compare(n, start): [|| → &&]
sum: n < 0: [< → >=] [< → <=]
sum: 0: [0 → -1] [0 → 1]
sum: n == kept && !compare(n, start): [&& → ||]
sum: n == kept: [== → !=]
sum: !compare(n, start): [not negated]
sum: continue: [continue → break] [dropped]
sum: 0: [0 → -1] [0 → 1]
sum: i < len(list): [< → >=] [< → <=]
sum: s += int64(2*list[i]) + 1: [dropped]
sum: int64(2*list[i]) + 1: [+ → -]
sum: 2*list[i]: [* → /]
sum: 2: [2 → 1] [2 → 3]
sum: 1: [1 → 0] [1 → 2]
found: defer func() { ok = ok && s != "" }(): [dropped]
found: ok = ok && s != "": [dropped]
found: ok && s != "": [&& → ||]
found: ok: [negated]
found: s != "": [!= → ==]
found: l == s: [== → !=]
found: true: [true → false]
found: false: [false → true]`
	if got.String() != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	var out strings.Builder
	s, err := run(t.Context(), options{n: 1000, seed: 1, packages: kinds, tests: []string{kinds}, skip: "^$"}, &out)
	if want := (score{killed: n}); err != nil || s != want {
		t.Errorf("got %+v, %v, want %+v: %s", s, err, want, out.String())
	}
}
