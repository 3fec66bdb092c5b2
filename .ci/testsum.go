// Testsum reads the output of `go test -json` on stdin and prints a line for each
// package, in full what failed, and at last how many tests passed and failed. It
// exits with 1 where something failed or where no test ran.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	if !summarize(os.Stdin, os.Stdout) {
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
	output                  map[string]*strings.Builder // by package and test
	tests                   map[string]int              // finished tests, by package
	failures                map[string]int              // by package
}

// summarize reports whether tests ran and all passed.
func summarize(in io.Reader, out io.Writer) bool {
	s := &summary{
		out:      out,
		output:   make(map[string]*strings.Builder),
		tests:    make(map[string]int),
		failures: make(map[string]int),
	}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		switch {
		case len(line) == 0:
		case json.Unmarshal(line, &e) == nil:
			s.take(e)
		default:
			out.Write(line) // not from test2json: something else went wrong
		}
		if err != nil {
			break
		}
	}
	if s.skipped > 0 {
		fmt.Fprintf(out, "%d skipped\n", s.skipped)
	}
	fmt.Fprintf(out, "%d passed, %d failed\n", s.passed, s.failed)
	return s.failed == 0 && s.passed > 0
}

func (s *summary) take(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		if s.output[key] == nil {
			s.output[key] = new(strings.Builder)
		}
		s.output[key].WriteString(e.Output)
	case "build-output":
		io.WriteString(s.out, e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(e)
		} else {
			s.endTest(e)
		}
		delete(s.output, key)
	}
}

func (s *summary) endTest(e event) {
	s.tests[e.Package]++
	switch e.Action {
	case "pass":
		s.passed++
	case "fail":
		s.failed++
		s.failures[e.Package]++
		fmt.Fprintf(s.out, "--- FAILED: %s %s\n%s", e.Package, e.Test, s.text(e))
	case "skip":
		s.skipped++
		fmt.Fprintf(s.out, "--- skipped: %s %s\n%s", e.Package, e.Test, s.text(e))
	}
}

func (s *summary) endPackage(e event) {
	switch {
	case e.Action == "fail":
		if s.failures[e.Package] == 0 {
			s.failed++ // the build, a panic, the timeout: no test was blamed
		}
		// A test that a panic or the timeout ended has no end of its own.
		for key, text := range s.output {
			if strings.HasPrefix(key, e.Package+" ") && !strings.HasSuffix(key, " ") {
				fmt.Fprintf(s.out, "--- unfinished: %s\n%s", key, text)
				delete(s.output, key)
			}
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
