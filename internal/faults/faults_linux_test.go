package faults_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

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
