// Package need lets a test say what it needs beyond Go. Where that is missing the test
// skips with the reason, so that `go test ./...` works on any machine; where the
// environment has BANMESH_ALL=1 or CI=true it fails instead, so that nothing is left
// out in silence. `make deps` installs everything.
package need

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// all reports whether nothing may be left out.
func all() bool { return os.Getenv("BANMESH_ALL") == "1" || os.Getenv("CI") == "true" }

// missing skips the test, or fails it where nothing may be left out.
func missing(t testing.TB, what string) {
	t.Helper()
	if all() {
		t.Fatalf("%s: run make deps, and the tests as root", what)
	}
	t.Skipf("%s: make deps installs what the tests need, as root", what)
}

// Programs are looked up in PATH.
func Programs(t testing.TB, names ...string) {
	t.Helper()
	Long(t)
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing(t, err.Error())
		}
	}
}

// Success is the command's: something that is installed and is not a program, as a
// library of Python's.
func Success(t testing.TB, name string, args ...string) {
	t.Helper()
	Programs(t, name)
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		missing(t, exec.Command(name, args...).String()+": "+err.Error()+": "+string(out))
	}
}

// Files are installed by something else than a package, as a library of npm's.
func Files(t testing.TB, names ...string) {
	t.Helper()
	Long(t)
	for _, name := range names {
		if _, err := os.Stat(name); err != nil {
			missing(t, err.Error())
		}
	}
}

// Worked is for what only a try can tell, as whether a container boots: err is how it failed.
func Worked(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		missing(t, err.Error())
	}
}

// Root is for network namespaces, other users' files and the kernel's sets.
func Root(t testing.TB) {
	t.Helper()
	Long(t)
	if os.Geteuid() != 0 {
		missing(t, "not root")
	}
}

// Long marks a test that takes more than some seconds.
func Long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("left out by -short")
	}
}

// Soak gives how long a test runs that runs for as long as it is told to. Without
// BANMESH_SOAK, a duration as Go writes it, the test is left out.
func Soak(t testing.TB) time.Duration {
	t.Helper()
	length, err := time.ParseDuration(os.Getenv("BANMESH_SOAK"))
	if err != nil {
		t.Skip("runs for as long as BANMESH_SOAK says, as `make soak` has it")
	}
	return length
}
