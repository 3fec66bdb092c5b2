package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"banmesh/store"
)

// leastMemory is the smallest number of bans from which memory is told.
const leastMemory = 200_000

// memory measures what bans weigh in one agent, and how soon it is back with
// them. It comes first, while the process holds nothing else.
func (b *bench) memory(ctx context.Context) error {
	n := max(b.options.Bans, leastMemory)
	b.options.Progress(fmt.Sprintf("memory of %d bans", n))
	before, err := anonymous()
	if err != nil {
		return err
	}
	cfg := store.Config{Path: filepath.Join(b.dir, "memory.db"), Origin: "bench"}
	cfg.Limits = store.DefaultLimits()
	cfg.Limits.LivePerOrigin = 0
	set, err := store.Open(cfg)
	if err != nil {
		return err
	}
	a := &agent{name: "bench", set: set}
	if err := a.ban(ctx, b.next(n)); err != nil {
		set.Close()
		return err
	}
	if err := set.Close(); err != nil {
		return err
	}
	b.options.Progress("restart")
	began := time.Now()
	if set, err = store.Open(cfg); err != nil {
		return err
	}
	defer set.Close()
	b.report.Restart = millis(time.Since(began))
	after, err := anonymous()
	if err != nil {
		return err
	}
	if live := set.Counts().Live; live != n {
		return fmt.Errorf("%d bans after the restart, want %d", live, n)
	}
	b.report.MemoryBans = n
	b.report.MemoryPerMillion = float64(after-before) / (1 << 20) * 1e6 / float64(n)
	return nil
}

// anonymous is this process's resident memory that no file backs (RssAnon of
// proc(5)), in bytes, without garbage.
func anonymous() (int64, error) {
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/self/status has no RssAnon")
}
