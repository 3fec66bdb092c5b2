package main

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed hook.go.txt
var hook string

// test is one test function, in the binary of its package.
type test struct {
	binary, dir, name string
	short             bool
	took              time.Duration
	reaches           []byte // by the number of a mutant, 1 if it is reached
}

// build compiles the tests over all mutants, and finds out which test reaches which.
func build(ctx context.Context, o options, say io.Writer, dir string, packages []*pkg, chosen []*mutant) ([]*test, error) {
	skip, err := regexp.Compile(o.skip)
	if err != nil {
		return nil, fmt.Errorf("-skip: %w", err)
	}
	replaced := make(map[string]string)
	for _, p := range packages {
		for _, f := range p.files {
			replaced[f.name] = filepath.Join(dir, fmt.Sprintf("source%d.go", len(replaced)))
			if err := os.WriteFile(replaced[f.name], mutate(f, chosen), 0o600); err != nil {
				return nil, err
			}
		}
		added := filepath.Join(dir, fmt.Sprintf("hook%d.go", len(replaced)))
		replaced[filepath.Join(p.dir, "mutants_hook.go")] = added
		if err := os.WriteFile(added, []byte("package "+p.name+"\n\n"+hook), 0o600); err != nil {
			return nil, err
		}
	}
	overlay := filepath.Join(dir, "overlay.json")
	b, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(overlay, b, 0o600); err != nil {
		return nil, err
	}
	listing, err := exec.CommandContext(ctx, "go", append([]string{"list", "-f", "{{.ImportPath}} {{.Dir}}"}, o.tests...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w", strings.Join(o.tests, " "), err)
	}
	var tests []*test
	for line := range strings.Lines(string(listing)) {
		path, in, _ := strings.Cut(strings.TrimSpace(line), " ")
		binary := filepath.Join(dir, strings.ReplaceAll(path, "/", "-")+".test")
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, path)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, out)
		}
		if _, err := os.Stat(binary); err != nil {
			continue // no tests
		}
		cmd = exec.CommandContext(ctx, binary, "-test.list", ".")
		cmd.Dir = in
		names, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("the tests of %s: %w", path, err)
		}
		for name := range strings.FieldsSeq(string(names)) {
			if !strings.HasPrefix(name, "Benchmark") && !skip.MatchString(name) {
				tests = append(tests, &test{binary: binary, dir: in, name: name, short: o.short})
			}
		}
	}
	var good []*test
	for _, t := range tests {
		reached := filepath.Join(dir, "reached")
		if err := os.WriteFile(reached, make([]byte, len(chosen)+1), 0o600); err != nil {
			return nil, err
		}
		began := time.Now()
		out, err := execute(ctx, dir, []*test{t}, 10*time.Minute, "MUTANT_REACHED="+reached)
		if err != nil { // a test that measures, on a busy machine
			fmt.Fprintf(say, "left out, because it fails without a mutant: %s: %s\n", t.name, firstFailure(out))
			continue
		}
		t.took = time.Since(began)
		if t.reaches, err = os.ReadFile(reached); err != nil {
			return nil, err
		}
		good = append(good, t)
	}
	if len(good) == 0 {
		return nil, errors.New("no test passes without a mutant")
	}
	tests = good
	slices.SortStableFunc(tests, func(a, b *test) int { return cmp.Compare(a.took, b.took) })
	return tests, nil
}

// mutate writes a file with all mutants in it. Each stays on its line.
func mutate(f source, chosen []*mutant) []byte {
	type insertion struct {
		edit
		text string
		id   int
		ends bool
	}
	var all []insertion
	replace := make(map[int]edit)
	for _, m := range chosen {
		for _, e := range m.edits {
			if m.path != f.name {
				continue
			}
			number := func(s string) string { return strings.ReplaceAll(s, "@", strconv.Itoa(m.id)) }
			all = append(all, insertion{e, number(e.before), m.id, false}, insertion{e, number(e.after), m.id, true})
			if e.infix {
				replace[e.op] = e
			}
		}
	}
	outer := func(a, b insertion) int { // negative where a encloses b
		inner := map[bool]int{true: 1}
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to), cmp.Compare(inner[a.infix], inner[b.infix]), cmp.Compare(a.id, b.id))
	}
	at := func(i insertion) int { return map[bool]int{true: i.to, false: i.from}[i.ends] }
	slices.SortStableFunc(all, func(a, b insertion) int {
		switch {
		case at(a) != at(b):
			return cmp.Compare(at(a), at(b))
		case a.ends != b.ends:
			return map[bool]int{true: -1, false: 1}[a.ends]
		case a.ends:
			return outer(b, a)
		}
		return outer(a, b)
	})
	var out bytes.Buffer
	for i := 0; i <= len(f.text); i++ {
		for len(all) > 0 && at(all[0]) == i {
			out.WriteString(all[0].text)
			all = all[1:]
		}
		if e, ok := replace[i]; ok {
			out.WriteString(",")
			i += e.oplen - 1
		} else if i < len(f.text) {
			out.WriteByte(f.text[i])
		}
	}
	return out.Bytes()
}

// try runs the tests that reach a mutant, the quick ones first, until one notices it.
func (m *mutant) try(ctx context.Context, dir string, tests []*test) (noticed bool, by string, err error) {
	var groups [][]*test
	reached := 0
	for _, t := range tests {
		if t.reaches[m.id] == 0 {
			continue
		}
		reached++
		last := len(groups) - 1
		if last < 0 || groups[last][0].binary != t.binary || t.took > 4*groups[last][0].took+100*time.Millisecond {
			groups = append(groups, nil)
			last++
		}
		groups[last] = append(groups[last], t)
	}
	for _, g := range groups {
		limit := 10 * time.Second
		for _, t := range g {
			limit += 10 * t.took
		}
		out, err := execute(ctx, dir, g, limit, "MUTANT="+strconv.Itoa(m.id))
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit):
			return true, firstFailure(out), nil
		case err != nil:
			return false, "", err
		}
	}
	if reached == 0 {
		return false, "no test reaches it where it differs", nil
	}
	return false, fmt.Sprintf("%d tests reach it", reached), nil
}

// execute runs tests of one binary. Memory has a limit too: a mutant may want all of it.
func execute(ctx context.Context, dir string, tests []*test, limit time.Duration, env string) (string, error) {
	temp, err := os.MkdirTemp(dir, "")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	names := make([]string, len(tests))
	for i, t := range tests {
		names[i] = t.name
	}
	ctx, cancel := context.WithTimeout(ctx, limit+5*time.Second) // a mutant may stop the runtime too
	defer cancel()
	args := []string{"-c", `ulimit -v 8388608; exec "$0" "$@"`, tests[0].binary, "-test.failfast", "-test.short=" + strconv.FormatBool(tests[0].short),
		"-test.timeout", limit.String(), "-test.run", "^(" + strings.Join(names, "|") + ")$"}
	cmd := exec.CommandContext(ctx, "sh", args...)
	// What a mutant breaks is no seed for later.
	cmd.Dir, cmd.Env, cmd.WaitDelay = tests[0].dir, append(os.Environ(), "TMPDIR="+temp, "RAPID_NOFAILFILE=1", env), time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

var failed = regexp.MustCompile(`--- FAIL: (\S+)|panic: (.*)|fatal error: (.*)`)

// firstFailure is what noticed.
func firstFailure(out string) string {
	if found := failed.FindString(out); found != "" {
		return found
	}
	return "a test"
}
