package faults_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banmesh/internal/faults"
)

func TestEachCallFailsOnce(t *testing.T) {
	var got []string
	faults.Each(t, func(try func(func()) string) {
		path := filepath.Join(t.TempDir(), "file")
		var err error
		failed := try(func() {
			// The runtime may have to wake a thread for it, which is no call of the program.
			time.AfterFunc(time.Millisecond, func() {}).Stop()
			var f *os.File
			if f, err = os.Create(path); err == nil {
				_, err = f.WriteString("text")
				err = errors.Join(err, f.Sync(), f.Close())
			}
		})
		got = append(got, failed)
		if (err != nil) != (failed != "") || err != nil && !errors.Is(err, syscall.EIO) {
			t.Errorf("%s failed: got %v", failed, err)
		}
	})
	if want := "[open write fsync close ]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// TestSignalsDoNotStopTheSearch: the runtime sends a thread signals, and one that comes while the kernel asks takes the question
// back. It is asked again, and must be answered then.
func TestSignalsDoNotStopTheSearch(t *testing.T) {
	name := t.TempDir()
	faults.Each(t, func(try func(func()) string) {
		var thread atomic.Int32
		done := make(chan struct{})
		var signals sync.WaitGroup
		signals.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					unix.Tgkill(os.Getpid(), int(thread.Load()), unix.SIGURG)
				}
			}
		})
		try(func() {
			thread.Store(int32(unix.Gettid()))
			for range 40 {
				os.Stat(name)
			}
			thread.Store(0)
		})
		close(done)
		signals.Wait()
	})
}

// TestTheLogOfGoTestIsNoCall: go test logs which files a test looks at, and whichever thread fills the buffer writes it.
func TestTheLogOfGoTestIsNoCall(t *testing.T) {
	out, err := exec.Command(os.Args[0], "-test.run=^TestSignalsDoNotStopTheSearch$", "-test.count=5", "-test.testlogfile="+filepath.Join(t.TempDir(), "log")).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
