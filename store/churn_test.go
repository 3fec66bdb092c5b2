package store

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"banmesh/internal/need"
)

// churn lets a mesh live for so long on a virtual clock: each minute b bans 50 addresses for ten minutes, and a, which leads,
// puts them into the conductor and takes out what has ended. Addresses come back after hours. It returns the most addresses
// that were in the tenant, the most records that a's log held, and how many times what lives in it a's file was, at worst on
// the hour, and in the end.
func churn(t *testing.T, length time.Duration) (tenant, records int, worst, last float64) {
	const each, life = 50, 10
	dir := t.TempDir()
	if base, err := os.MkdirTemp("/dev/shm", "banmesh-churn-"); err == nil {
		dir = base
		t.Cleanup(func() { os.RemoveAll(base) })
	}
	var clock atomic.Int64
	clock.Store(int64(At(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))))
	now := func() time.Time { return Millis(clock.Load()).Time() }
	var file *boltDisk
	path := filepath.Join(dir, "a.db")
	a := open(t, Config{Path: path, Origin: "a", Now: now, Limits: DefaultLimits(), openDisk: func(path string) (disk, error) {
		d, err := openBolt(path)
		if err == nil {
			file = d.(*boltDisk)
		}
		return d, err
	}})
	defer a.Close()
	b := open(t, Config{Path: filepath.Join(dir, "b.db"), Origin: "b", Now: now, Limits: DefaultLimits()})
	defer b.Close()
	ctx := context.Background()
	var placed [][]netip.Prefix
	sent := uint64(0)
	minutes := int(length / time.Minute)
	for m := range minutes {
		clock.Add(int64(minute))
		reqs := make([]BanRequest, each)
		add := make([]netip.Prefix, each)
		for i := range reqs {
			add[i] = addr((m*each + i) % 5003)
			reqs[i] = BanRequest{Prefix: add[i], Jail: "sshd", Start: Millis(clock.Load()), Until: Millis(clock.Load()) + life*minute}
		}
		if _, err := b.Ban(ctx, reqs); err != nil {
			t.Fatal(err)
		}
		for chunk, last := b.Since(sent, 1<<18); chunk != nil; chunk, last = b.Since(sent, 1<<18) {
			sent = last
			if _, err := a.Merge(chunk); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Place(ctx, add, Millis(clock.Load())+7*24*hour); err != nil {
			t.Fatal(err)
		}
		placed = append(placed, add)
		if len(placed) > life {
			if err := a.Unplace(ctx, placed[0]); err != nil {
				t.Fatal(err)
			}
			placed = placed[1:]
		}
		a.Tick(true)
		b.Tick(true)
		tenant = max(tenant, len(a.Placed()))
		a.mu.RLock()
		records = max(records, len(a.own.recs)-a.own.dead)
		a.mu.RUnlock()
		if m%60 == 59 {
			if err := a.SaveMeta(ctx, "hour", []byte{byte(m)}); err != nil { // after it the writer is at rest
				t.Fatal(err)
			}
			var live int64
			done := make(chan struct{})
			a.later(func(*plan) error { live = file.live; close(done); return nil })
			<-done
			last = float64(sizeOf(t, path)) / float64(live)
			worst = max(worst, last)
		}
	}
	return tenant, records, worst, last
}

func checkChurn(t *testing.T, length time.Duration) {
	begun := time.Now()
	tenant, records, worst, last := churn(t, length)
	t.Logf("%v in %v: at most %d addresses in the tenant, %d records in the leader's log; its file is %.1f times what lives in it, at worst %.1f",
		length, time.Since(begun).Round(time.Second), tenant, records, last, worst)
	if records > 3*tenant {
		t.Errorf("the leader's log held %d records for a tenant of at most %d", records, tenant)
	}
	if worst > 3 {
		t.Errorf("the leader's file was %.1f times what lives in it", worst)
	}
}

// TestChurnLeavesNothingBehind: hours of bans that come and go through the conductor.
func TestChurnLeavesNothingBehind(t *testing.T) {
	need.Long(t)
	checkChurn(t, 4*time.Hour)
}

// TestSoakMonthOfChurn is the same for 30 days.
func TestSoakMonthOfChurn(t *testing.T) {
	need.Soak(t)
	checkChurn(t, 30*24*time.Hour)
}
