package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWhatNoTestHoldsSurvives(t *testing.T) {
	const pkg = "./testdata/half"
	before, err := os.ReadFile(filepath.Join("testdata", "half", "half.go"))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	got, err := run(t.Context(), options{n: 10, seed: 1, timeout: time.Minute, pkg: pkg, tests: []string{pkg}}, &out)
	if err != nil {
		t.Fatal(err)
	}
	if want := (score{killed: 1, survived: 1}); got != want || out.String() != "survived: half.go:8: < → <=\n" {
		t.Errorf("got %+v, %q; want %+v and the one of Untested", got, out.String(), want)
	}
	if after, err := os.ReadFile(filepath.Join("testdata", "half", "half.go")); err != nil || string(after) != string(before) {
		t.Errorf("the source was changed: %v", err)
	}
}

// Every kind of change is made once where it can be, and each gives a source that differs.
func TestMutantsOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.go")
	source := `package x

const kept = 1 + 2

func f(n int) (ok bool) {
	if n > 0 {
		g()
		n = 7
	}
	for {
		break
	}
	return true
}
`
	if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	ms, err := mutantsOf(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range ms {
		got = append(got, m.what)
		if string(m.source) == source {
			t.Errorf("%s changes nothing", m)
		}
	}
	want := []string{"if negated", "> → >=", "0 → 1", "statement dropped (ExprStmt)", "statement dropped (AssignStmt)", "7 → 0", "statement dropped (BranchStmt)", "true → false"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
