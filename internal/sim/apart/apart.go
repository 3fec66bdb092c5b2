// Package apart measures the memory that something takes in a process of its own, without what the test around it needs: the
// simulated server at the other end holds the same documents, and the collector would count them.
package apart

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// variable marks the other process.
const variable = "BANMESH_TEST_APART"

// Peak runs the calling test once more in another process, with more environment, and returns by how many kB that process grew
// at most. There the test calls Measure instead.
func Peak(t testing.TB, env ...string) int {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(append(os.Environ(), variable+"=1"), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, text, _ := strings.Cut(string(out), "peak of ")
	text, _, _ = strings.Cut(text, " kB")
	peak, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return peak
}

// Measure runs f and tells the process that waits in Peak what it cost, if this is the other process. Otherwise it returns
// false.
func Measure(t testing.TB, f func()) bool {
	t.Helper()
	if os.Getenv(variable) == "" {
		return false
	}
	before := memory(t, "RssAnon")
	f()
	// The peak includes the pages of the program's file, which are no cost of f.
	fmt.Printf("peak of %d kB\n", memory(t, "VmHWM")-before-memory(t, "RssFile"))
	return true
}

// memory reads a figure of /proc/self/status (proc_pid_status(5)), in kB.
func memory(t testing.TB, name string) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut(string(b), "\n"+name+":")
	value, _, _ = strings.Cut(strings.TrimSpace(value), " ")
	n, err := strconv.Atoi(value)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
