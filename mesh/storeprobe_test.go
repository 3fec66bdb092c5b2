package mesh

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/store"
)

// Nothing is banned here, and nobody else would notice.
func TestADiskThatBecomesReadOnlyIsNoticedWithoutABan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var readOnly atomic.Bool
		s, err := store.Open(store.Config{Path: filepath.Join(t.TempDir(), "store.db"), Origin: "router1", Commit: func(write func() error) error {
			if readOnly.Load() {
				return syscall.EROFS
			}
			return write()
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		probe := newStoreProbe(t.TempDir())
		go func() { ended <- probe.run(ctx, s) }()

		time.Sleep(2 * probeEvery)
		if err := s.Health(); err != nil {
			t.Fatal(err)
		}
		readOnly.Store(true)
		time.Sleep(probeEvery + time.Second)
		if err := s.Health(); !errors.Is(err, syscall.EROFS) {
			t.Errorf("after a minute read-only: %v", err)
		}
		readOnly.Store(false)
		time.Sleep(2 * probeEvery)
		if err := s.Health(); err != nil {
			t.Errorf("writable again: %v", err)
		}
		readOnly.Store(true)
		probe.soon()
		synctest.Wait()
		if err := s.Health(); !errors.Is(err, syscall.EROFS) {
			t.Errorf("without a leader: %v", err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
