package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// wasted is a store whose file is nearly all dead: of many bans, all but the first live ones are forgotten. Its clock is the
// one returned, in milliseconds. prepare is given the disk before the store uses it.
func wasted(t *testing.T, bans, live int, prepare func(*boltDisk)) (s *Store, path string, clock *atomic.Int64) {
	t.Helper()
	path, clock = storePath(t), new(atomic.Int64)
	clock.Store(int64(At(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))))
	var opened *boltDisk
	s = open(t, Config{Path: path, Origin: "a", Now: func() time.Time { return Millis(clock.Load()).Time() },
		openDisk: func(path string) (disk, error) {
			d, err := openBolt(path)
			if err == nil {
				opened = d.(*boltDisk)
				opened.resting = Millis(clock.Load()) + shrinkEvery - 1 // not while it is filled
				if prepare != nil {
					prepare(opened)
				}
			}
			return d, err
		}})
	var reqs []BanRequest
	for i := range bans {
		until := Millis(clock.Load()) + 10*minute
		if i < live {
			until = Never
		}
		reqs = append(reqs, BanRequest{Prefix: addr(i), Until: until, Reason: "seen at the door again and again"})
	}
	for part := range slices.Chunk(reqs, 10000) {
		if _, err := s.Ban(context.Background(), part); err != nil {
			t.Fatal(err)
		}
	}
	return s, path, clock
}

// expire lets all but the live bans be forgotten, which the writer takes as an occasion to look at the file.
func expire(t *testing.T, s *Store, clock *atomic.Int64) {
	t.Helper()
	clock.Add(int64(3 * hour))
	s.Tick(true)
	if err := s.SaveMeta(context.Background(), "waited", []byte("x")); err != nil {
		t.Fatal(err)
	}
	clock.Add(int64(shrinkEvery + minute))
	if err := s.SaveMeta(context.Background(), "waited", []byte("y")); err != nil {
		t.Fatal(err)
	}
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestPowerLossWhileTheFileIsMadeSmaller takes, at each step, every file that a loss of power may leave there, with bans that
// are given and lifted between the steps: each opens, and holds what had been acknowledged by then.
func TestPowerLossWhileTheFileIsMadeSmaller(t *testing.T) {
	var (
		s        *Store
		path     string
		steps    []string
		promised = promise{}
		images   int
		n        = 5_000_000
		done     = make(chan struct{})
	)
	check := func(what string, image []byte) {
		images++
		copied := filepath.Join(t.TempDir(), "store.db")
		if err := os.WriteFile(copied, image, 0o600); err != nil {
			t.Error(err)
			return
		}
		// What is left of the copy does not matter to the next start.
		for _, left := range [][]byte{nil, image[:len(image)/2], bytes.Repeat([]byte("x"), 5000)} {
			if left != nil {
				if err := os.WriteFile(copied+shrinkSuffix, left, 0o600); err != nil {
					t.Error(err)
				}
			}
			again, err := Open(Config{Path: copied, Origin: "a"})
			if err != nil {
				t.Errorf("%s: %v", what, err)
				return
			}
			promised.check(t, again, what)
			if d := again.Doubt(); d != "" {
				t.Errorf("%s: %s", what, d)
			}
			again.Close()
			if _, err := os.Stat(copied + shrinkSuffix); err == nil && left != nil {
				if size := sizeOf(t, copied+shrinkSuffix); size == int64(len(left)) {
					t.Errorf("%s: what a run that was cut short has left is not removed", what)
				}
			}
		}
	}
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		return b
	}
	write := func() { // not in the writer's own goroutine
		ctx := context.Background()
		for i := range 3 {
			p := addr(n)
			n++
			promised[p.Addr().String()] = "ack"
			if _, err := s.Ban(ctx, []BanRequest{{Prefix: p, Until: Never}}); err != nil {
				t.Error(err)
			}
			if i == 1 {
				promised[p.Addr().String()] = "lifted"
				if _, err := s.Lift(ctx, LiftRequest{Prefixes: []netip.Prefix{p}}); err != nil {
					t.Error(err)
				}
			}
		}
		first := addr(n % 7) // one that is copied already, or not yet
		promised[first.Addr().String()] = "lifted"
		if _, err := s.Lift(ctx, LiftRequest{Prefixes: []netip.Prefix{first}}); err != nil {
			t.Error(err)
		}
	}
	old := filepath.Join(t.TempDir(), "old")
	s, path, clock := wasted(t, 30000, 2000, func(d *boltDisk) {
		d.at = func(step string) {
			steps = append(steps, step)
			switch step {
			case "slice", "copied":
				write()
				check(step, read(path))
			case "renamed", "synced":
				check(step+", by the new name", read(path))
				if step == "renamed" {
					check("renamed, but the directory is not synced", read(old))
				} else {
					close(done)
				}
			default:
				check(step, read(path))
			}
		}
	})
	for i := range 2000 {
		promised[addr(i).Addr().String()] = "ack"
	}
	if err := os.Link(path, old); err != nil {
		t.Fatal(err)
	}
	before := sizeOf(t, path)
	expire(t, s, clock)
	<-done
	write()
	if got, want := strings.Join(slices.Compact(steps), " "), "slice copied written whole renamed synced"; got != want {
		t.Errorf("steps: %s, want %s", got, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check("in the end", read(path))
	t.Logf("%d bytes became %d, %d slices, %d images", before, sizeOf(t, path), len(steps), images)
	if size := sizeOf(t, path); size > before/3 {
		t.Errorf("of %d bytes, of which a fifteenth lived, %d are left", before, size)
	}
}

// TestTheFileIsMadeSmallerAtStart: what was forgotten in an earlier run is dead weight too.
func TestTheFileIsMadeSmallerAtStart(t *testing.T) {
	s, path, clock := wasted(t, 30000, 100, func(d *boltDisk) { d.resting = Never / 2 })
	clock.Add(int64(3 * hour))
	s.Tick(true)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before := sizeOf(t, path)
	s = open(t, Config{Path: path, Origin: "a", Now: func() time.Time { return Millis(clock.Load()).Time() }})
	eventually(t, "the file is smaller", func() bool { return sizeOf(t, path) < before/4 })
	if n := len(s.List(Query{})); n != 100 {
		t.Errorf("%d bans are listed, want 100", n)
	}
}

func TestTheFileKeepsItsSizeWhereTheDiskIsShort(t *testing.T) {
	asked := make(chan struct{}, 100)
	s, path, clock := wasted(t, 30000, 100, func(d *boltDisk) {
		d.space = func(string) (int64, bool) { asked <- struct{}{}; return spareDisk, true }
		d.at = func(step string) { t.Errorf("it is made smaller: %s", step) }
	})
	before := sizeOf(t, path)
	expire(t, s, clock)
	<-asked
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if size := sizeOf(t, path); size < before {
		t.Errorf("%d bytes have become %d", before, size)
	}
}

// TestCloseDoesNotWaitForASmallerFile: what has been copied until then is dropped.
func TestCloseDoesNotWaitForASmallerFile(t *testing.T) {
	at := make(chan struct{})
	first := true
	s, path, clock := wasted(t, 30000, 5000, func(d *boltDisk) {
		d.at = func(string) {
			if first {
				first = false
				at <- struct{}{}
				<-at
			}
		}
	})
	expire(t, s, clock)
	<-at
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	at <- struct{}{}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + shrinkSuffix); err == nil {
		t.Error("the copy is still there")
	}
	again := open(t, Config{Path: path, Origin: "a"})
	if n := len(again.List(Query{})); n != 5000 {
		t.Errorf("%d bans are listed, want 5000", n)
	}
}

// TestFiguresSmallerFile measures how long a ban waits while the file is made smaller.
func TestFiguresSmallerFile(t *testing.T) {
	done := make(chan struct{})
	once := sync.OnceFunc(func() { close(done) })
	s, path, clock := wasted(t, 300000, 30000, func(d *boltDisk) {
		d.at = func(step string) {
			if step == "synced" {
				once() // it may be worth it again at once
			}
		}
	})
	before := sizeOf(t, path)
	ctx := context.Background()
	ban := func(n int) time.Duration {
		begun := time.Now()
		if _, err := s.Ban(ctx, []BanRequest{{Prefix: addr(1<<22 + n), Until: Never}}); err != nil {
			t.Fatal(err)
		}
		return time.Since(begun)
	}
	expire(t, s, clock)
	var meanwhile []time.Duration
	for n, going := 0, true; going; n++ {
		meanwhile = append(meanwhile, ban(n))
		select {
		case <-done:
			going = false
		default:
		}
	}
	var afterwards []time.Duration
	for n := range 200 {
		afterwards = append(afterwards, ban(1<<16+n))
	}
	slices.Sort(meanwhile)
	slices.Sort(afterwards)
	report := func(d []time.Duration) string {
		return fmt.Sprintf("%d bans, median %v, longest %v", len(d), d[len(d)/2], d[len(d)-1])
	}
	t.Logf("%d bytes became %d; meanwhile %s; afterwards %s", before, sizeOf(t, path), report(meanwhile), report(afterwards))
}

// TestTheFileIsLockedAlsoWhileAnotherTakesItsPlace: an opener from before that must not get the old one.
func TestTheFileIsLockedAlsoWhileAnotherTakesItsPlace(t *testing.T) {
	path := storePath(t)
	old, err := openFile(path)
	if err != nil {
		t.Fatal(err)
	}
	smaller, err := openFile(path + shrinkSuffix)
	if err != nil {
		t.Fatal(err)
	}
	defer smaller.db.Close()
	var once sync.Once
	_, err = openFileBy(path, func(path string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(path, flag, mode)
		once.Do(func() {
			if err := os.Rename(path+shrinkSuffix, path); err != nil {
				t.Error(err)
			}
			old.db.Close()
		})
		return f, err
	})
	if !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
}

// TestASmallerFileIsGivenUpWhereTooMuchIsWritten: the writer does not catch up by itself with more than a few transactions.
func TestASmallerFileIsGivenUpWhereTooMuchIsWritten(t *testing.T) {
	path := storePath(t)
	opened, err := openBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	d := opened.(*boltDisk)
	defer d.close()
	woken := make(chan struct{}, 1)
	wake := func() { woken <- struct{}{} }
	if d.shrink, err = startShrink(d, wake); err != nil {
		t.Fatal(err)
	}
	const now = Millis(1_800_000_000_000)
	big := &batch{ops: []recordOp{{1, 1, make([]byte, shrinkRest+1)}}}
	for range shrinkRounds {
		<-woken
		d.shrink.note(big)
		if _, _, err := d.tend(now, wake); err != nil {
			t.Fatal(err)
		}
	}
	<-woken
	d.shrink.note(big)
	if _, _, err := d.tend(now, wake); err == nil || d.shrink != nil {
		t.Errorf("it goes on, error %v", err)
	}
	if d.resting != now+shrinkEvery {
		t.Errorf("it begins again after %d ms", d.resting-now)
	}
	if _, err := os.Stat(path + shrinkSuffix); err == nil {
		t.Error("the copy is still there")
	}
}
