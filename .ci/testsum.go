// Testsum reads the output of `go test -json` on stdin and prints a line for each
// package, in full what failed, and at last how many tests passed and failed. It
// exits with 1 where something failed or where no test ran. A line
//
//	{"Action":"failed","Output":"COMMAND"}
//
// says that COMMAND, which wrote what comes before it, failed; with the action "cut",
// that it was ended before it was done.
//
//	testsum [COMMAND...]
//
// With a COMMAND, as `go test -json`, the few tests that failed run once more, alone
// and one after the other: COMMAND -run '^TestX$' PACKAGE. A busy machine can make a
// test fail that is right; a test that passes only then is named at the end all the
// same, because it is a defect of the test or of what it tests. With CI_UNTIL, in Unix
// seconds, none runs again later than 90 seconds after that.
//
// It also names the slowest tests, because what everybody waits for grows unseen.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// mostAgain is how many tests may fail and run once more. More than these are no
// busy machine.
const mostAgain = 8

// grace is how much later than CI_UNTIL a test may still run again.
const grace = 90 * time.Second

// A test is named as slow from slow on, and at most the slowest mostSlow.
const (
	slow     = 5 // seconds
	mostSlow = 15
)

func main() {
	last := time.Now().Add(24 * time.Hour)
	if unix, err := strconv.ParseInt(os.Getenv("CI_UNTIL"), 10, 64); err == nil {
		last = time.Unix(unix, 0).Add(grace)
	}
	var again func(pkg, test string) io.Reader
	if command := os.Args[1:]; len(command) > 0 {
		again = func(pkg, test string) io.Reader {
			if time.Now().After(last) {
				return strings.NewReader("no time left\n")
			}
			args := append(slices.Clone(command[1:]), "-run", "^"+test+"$", pkg)
			out, err := exec.Command(command[0], args...).CombinedOutput()
			if err != nil && len(out) == 0 {
				out = fmt.Appendln(nil, err)
			}
			return bytes.NewReader(out)
		}
	}
	if !summarize(os.Stdin, os.Stdout, again) {
		os.Exit(1)
	}
}

// event is what cmd/test2json writes, a line each (go doc test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build-output
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string
}

type summary struct {
	out                     io.Writer
	passed, failed, skipped int
	known                   int                         // failures before the command that runs
	output                  map[string]*strings.Builder // by package and test
	tests                   map[string]int              // finished tests, by package
	failures                map[string]int              // by package
	blamed                  []top                       // what failed, in order
	running                 map[string]bool             // packages that began and did not end
	slowest                 []event                     // ends of test functions, as they came
}

// top is a test function, and how many failures it and its subtests are counted for.
type top struct {
	pkg, test string
	failures  int
	final     bool // a panic or a data race: no second try makes that good
}

// summarize reports whether tests ran and all passed, at the latest when again ran
// those that had failed.
func summarize(in io.Reader, out io.Writer, again func(pkg, test string) io.Reader) bool {
	s := newSummary(out)
	s.read(in)
	if again != nil {
		s.secondTry(again)
	}
	s.nameSlow()
	if s.skipped > 0 {
		fmt.Fprintf(out, "%d skipped\n", s.skipped)
	}
	fmt.Fprintf(out, "%d passed, %d failed\n", s.passed, s.failed)
	return s.failed == 0 && s.passed > 0
}

func newSummary(out io.Writer) *summary {
	return &summary{
		out:      out,
		output:   make(map[string]*strings.Builder),
		tests:    make(map[string]int),
		failures: make(map[string]int),
		running:  make(map[string]bool),
	}
}

func (s *summary) nameSlow() {
	slices.SortStableFunc(s.slowest, func(a, b event) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	for _, e := range s.slowest[:min(len(s.slowest), mostSlow)] {
		fmt.Fprintf(s.out, "slow: %5.1f s %s %s\n", e.Elapsed, e.Package, e.Test)
	}
}

// secondTry runs the tests that failed once more. Those that pass now are counted as
// passed, and named.
func (s *summary) secondTry(again func(pkg, test string) io.Reader) {
	if len(s.blamed) > mostAgain {
		fmt.Fprintf(s.out, "%d test functions failed: too many to blame on a busy machine, none runs again\n", len(s.blamed))
		return
	}
	var flaky []string
	for _, t := range s.blamed {
		if t.final {
			continue
		}
		name := t.pkg + " " + t.test
		fmt.Fprintf(s.out, "== once more, alone: %s\n", name)
		second := newSummary(s.out)
		second.read(again(t.pkg, t.test))
		if second.failed == 0 && second.passed > 0 {
			s.failed -= t.failures
			s.passed += t.failures
			flaky = append(flaky, name)
		}
	}
	for _, name := range flaky {
		fmt.Fprintf(s.out, "PASSED ONLY WHEN RUN AGAIN, find out why: %s\n", name)
	}
}

// read takes the output of go test to its end.
func (s *summary) read(in io.Reader) {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		switch {
		case len(line) == 0:
		case json.Unmarshal(line, &e) == nil:
			s.take(e)
		default:
			s.out.Write(line) // not from test2json: something else went wrong
		}
		if err != nil {
			break
		}
	}
	// go test itself was ended.
	for _, pkg := range slices.Sorted(maps.Keys(s.running)) {
		s.endPackage(event{Action: "fail", Package: pkg}, true)
	}
}

func (s *summary) take(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "start":
		s.running[e.Package] = true
	case "output":
		if s.output[key] == nil {
			s.output[key] = new(strings.Builder)
		}
		s.output[key].WriteString(e.Output)
	case "cut":
		s.failed++ // what had not begun by then, nobody else counts
		fmt.Fprintf(s.out, "ENDED before it was done: %s\n", e.Output)
		s.known = s.failed
	case "failed":
		// Most often because of a test that was counted already.
		if s.failed == s.known {
			s.failed++
			fmt.Fprintf(s.out, "FAILED without a test to blame: %s\n", e.Output)
		}
		s.known = s.failed
	case "build-output":
		io.WriteString(s.out, e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(e, false)
		} else {
			s.endTest(e)
		}
		delete(s.output, key)
	}
}

func (s *summary) endTest(e event) {
	s.tests[e.Package]++
	if e.Elapsed >= slow && !strings.Contains(e.Test, "/") {
		s.slowest = append(s.slowest, e)
	}
	switch e.Action {
	case "pass":
		s.passed++
	case "fail":
		s.failed++
		s.failures[e.Package]++
		s.blame(e)
		fmt.Fprintf(s.out, "--- FAILED: %s %s\n%s", e.Package, e.Test, s.text(e))
	case "skip":
		s.skipped++
		fmt.Fprintf(s.out, "--- skipped: %s %s\n%s", e.Package, e.Test, s.text(e))
	}
}

// blame counts the failure for the function that the test is, or is a part of.
func (s *summary) blame(e event) {
	test, _, _ := strings.Cut(e.Test, "/")
	i := slices.IndexFunc(s.blamed, func(t top) bool { return t.pkg == e.Package && t.test == test })
	if i < 0 {
		i = len(s.blamed)
		s.blamed = append(s.blamed, top{pkg: e.Package, test: test})
	}
	text := s.text(e)
	s.blamed[i].failures++
	s.blamed[i].final = s.blamed[i].final || final(text)
}

// final reports whether it is told of something that no second try makes good.
func final(text string) bool {
	for _, sign := range []string{"panic: ", "fatal error: ", "race detected", "DATA RACE", "signal: "} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// endPackage takes the end of a package; cut: it has none of its own.
func (s *summary) endPackage(e event, cut bool) {
	delete(s.running, e.Package)
	switch {
	case e.Action == "fail":
		// The build, a panic, the timeout. Some test may have failed before, and pass
		// when it runs again: that does not make up for those that never ran.
		broken := cut || s.failures[e.Package] == 0 || final(s.text(e))
		// A test that a panic or the timeout ended has no end of its own.
		for key, text := range s.output {
			if strings.HasPrefix(key, e.Package+" ") && !strings.HasSuffix(key, " ") {
				fmt.Fprintf(s.out, "--- unfinished: %s\n%s", key, text)
				delete(s.output, key)
				broken = true
			}
		}
		if broken {
			s.failed++
		}
		fmt.Fprintf(s.out, "FAIL %s (%.1f s)\n%s", e.Package, e.Elapsed, s.text(e))
	case s.tests[e.Package] > 0:
		fmt.Fprintf(s.out, "ok   %s (%.1f s, %d tests)\n", e.Package, e.Elapsed, s.tests[e.Package])
	}
	s.tests[e.Package], s.failures[e.Package] = 0, 0
}

func (s *summary) text(e event) string {
	if b := s.output[e.Package+" "+e.Test]; b != nil {
		return b.String()
	}
	return ""
}
