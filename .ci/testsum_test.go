package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	const good = `{"Action":"run","Package":"a","Test":"TestX"}
{"Action":"output","Package":"a","Test":"TestX","Output":"quiet\n"}
{"Action":"pass","Package":"a","Test":"TestX","Elapsed":0.1}
{"Action":"pass","Package":"a","Elapsed":0.5}
`
	for _, test := range []struct {
		name, in string
		ok       bool
		want     []string
		not      string
	}{
		{"all pass", good, true, []string{"ok   a (0.5 s, 1 tests)", "1 passed, 0 failed\n"}, "quiet"},
		{"nothing ran", "", false, []string{"0 passed, 0 failed\n"}, ""},
		{"a failure is shown in full", good + `{"Action":"output","Package":"b","Test":"TestY","Output":"y_test.go:7: got 1\n"}
{"Action":"fail","Package":"b","Test":"TestY"}
{"Action":"fail","Package":"b","Elapsed":1}
`, false, []string{"--- FAILED: b TestY\ny_test.go:7: got 1\n", "FAIL b (1.0 s)", "1 passed, 1 failed\n"}, "quiet"},
		{"a build that fails", good + `{"ImportPath":"b [b.test]","Action":"build-output","Output":"b.go:3: undefined: x\n"}
{"ImportPath":"b [b.test]","Action":"build-fail"}
{"Action":"output","Package":"b","Output":"FAIL\tb [build failed]\n"}
{"Action":"fail","Package":"b","Elapsed":0,"FailedBuild":"b [b.test]"}
`, false, []string{"b.go:3: undefined: x\n", "1 passed, 1 failed\n"}, ""},
		{"a timeout", good + `{"Action":"output","Package":"b","Test":"TestZ","Output":"waiting for Godot\n"}
{"Action":"output","Package":"b","Output":"panic: test timed out after 1s\n"}
{"Action":"fail","Package":"b","Elapsed":1}
`, false, []string{"waiting for Godot", "panic: test timed out", "1 passed, 1 failed\n"}, ""},
		{"an end of go test itself", good + `{"Action":"start","Package":"b"}
{"Action":"output","Package":"b","Test":"TestZ","Output":"waiting for Godot\n"}
`, false, []string{"unfinished: b TestZ\nwaiting for Godot", "FAIL b", "1 passed, 1 failed\n"}, ""},
		{"a slow test", good + `{"Action":"pass","Package":"a","Test":"TestZ","Elapsed":7.25}
`, true, []string{"slow:   7.2 s a TestZ\n"}, "TestX"},
		{"a skip", good + `{"Action":"output","Package":"a","Test":"TestS","Output":"no ipv6 here\n"}
{"Action":"skip","Package":"a","Test":"TestS"}
`, true, []string{"no ipv6 here", "1 skipped", "1 passed, 0 failed\n"}, ""},
		{"a command that was ended", good + `{"Action":"cut","Output":"go test ./..."}
`, false, []string{"ENDED before it was done: go test ./...\n", "1 passed, 1 failed\n"}, ""},
		{"a command that fails for a test", good + `{"Action":"fail","Package":"b","Test":"TestY"}
{"Action":"fail","Package":"b","Elapsed":1}
{"Action":"failed","Output":"go test ./..."}
`, false, []string{"1 passed, 1 failed\n"}, "without a test"},
		{"a command that fails for nothing known", good + `{"Action":"failed","Output":"go test ./..."}
`, false, []string{"FAILED without a test to blame: go test ./...\n", "1 passed, 1 failed\n"}, ""},
		{"other lines are passed on", "go: no such tool\n" + good, true, []string{"go: no such tool\n"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			if ok := summarize(strings.NewReader(test.in), &out, nil); ok != test.ok {
				t.Errorf("got %v, want %v", ok, test.ok)
			}
			for _, want := range test.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, out.String())
				}
			}
			if test.not != "" && strings.Contains(out.String(), test.not) {
				t.Errorf("%q in\n%s", test.not, out.String())
			}
		})
	}
}

// failing is a run of three functions of which two fail, one of them with a subtest.
const failing = `{"Action":"pass","Package":"a","Test":"TestX"}
{"Action":"output","Package":"a","Test":"TestY/part","Output":"too late\n"}
{"Action":"fail","Package":"a","Test":"TestY/part"}
{"Action":"fail","Package":"a","Test":"TestY"}
{"Action":"fail","Package":"a","Test":"TestZ"}
{"Action":"fail","Package":"a","Elapsed":0.5}
`

func TestSecondTry(t *testing.T) {
	for _, test := range []struct {
		name  string
		first string
		now   string // how each test ends that runs again
		ok    bool
		want  []string
		not   string
	}{
		{"passes now", failing, "pass", true, []string{
			"too late", "PASSED ONLY WHEN RUN AGAIN, find out why: a TestY\n", "find out why: a TestZ\n", "4 passed, 0 failed\n"}, ""},
		{"fails again", failing, "fail", false, []string{"1 passed, 3 failed\n"}, "PASSED ONLY"},
		{"does not run any more", failing, "", false, []string{"1 passed, 3 failed\n"}, "PASSED ONLY"},
		{"a data race", strings.ReplaceAll(failing, "too late", "testing.go:1: race detected during execution of test"), "pass", false, []string{"2 passed, 2 failed\n"}, "again: a TestY"},
		{"a panic", strings.ReplaceAll(failing, "too late", "panic: nil map"), "pass", false, []string{"2 passed, 2 failed\n"}, ""},
		{"a panic later on, of no test", failing + `{"Action":"start","Package":"b"}
{"Action":"fail","Package":"b","Test":"TestB"}
{"Action":"output","Package":"b","Output":"panic: of a goroutine\n"}
{"Action":"fail","Package":"b","Elapsed":0.5}
`, "pass", false, []string{"find out why: b TestB\n", "5 passed, 1 failed\n"}, ""},
		{"the end of another test", failing + `{"Action":"fail","Package":"b","Test":"TestB"}
{"Action":"output","Package":"b","Test":"TestC","Output":"=== RUN   TestC\n"}
{"Action":"fail","Package":"b","Elapsed":0.5}
`, "pass", false, []string{"unfinished: b TestC", "5 passed, 1 failed\n"}, ""},
		{"an end of go test itself", failing + `{"Action":"start","Package":"b"}
{"Action":"fail","Package":"b","Test":"TestB"}
`, "pass", false, []string{"FAIL b", "5 passed, 1 failed\n"}, ""},
		{"too many", many(mostAgain + 1), "pass", false, []string{"too many", "0 passed, 9 failed\n"}, "once more"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			ok := summarize(strings.NewReader(test.first), &out, func(pkg, name string) io.Reader {
				if test.now == "" {
					return strings.NewReader("go: no such package\n")
				}
				return strings.NewReader(fmt.Sprintf(`{"Action":%q,"Package":%q,"Test":%q}`+"\n", test.now, pkg, name))
			})
			if ok != test.ok {
				t.Errorf("got %v, want %v", ok, test.ok)
			}
			for _, want := range test.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, out.String())
				}
			}
			if test.not != "" && strings.Contains(out.String(), test.not) {
				t.Errorf("%q in\n%s", test.not, out.String())
			}
		})
	}
}

// many is a run of n tests that all fail.
func many(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, `{"Action":"fail","Package":"a","Test":"Test%d"}`+"\n", i)
	}
	return out.String()
}
