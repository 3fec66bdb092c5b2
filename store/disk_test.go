package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestFileKeepsEverything(t *testing.T) {
	path, now := storePath(t), time.Now
	ctx := context.Background()
	s := openReal(t, path, "a", now)
	peer := newNode(t, "b", &clock{now: now()}, nil)
	peer.ban("198.51.100.1", 3*time.Hour, func(q *BanRequest) { q.Reason = "seen twice" })
	until := At(now()) + hour
	if _, err := s.Ban(ctx, []BanRequest{{Prefix: pfx("192.0.2.1"), Until: until}, {Prefix: pfx("2001:db8::/64"), Until: Never}}); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		s.Allow(ctx, []AllowRequest{{Prefix: pfx("192.0.2.9"), Comment: "office"}}), s.Place(ctx, []netip.Prefix{pfx("192.0.2.1")}, until),
		s.PublishNeverBan(ctx, []netip.Prefix{pfx("203.0.113.1")}, until), s.Freeze(ctx), s.Block(ctx, "rogue"),
		s.SaveMeta(ctx, "peers", []byte("x")), s.SaveMeta(ctx, "old", []byte("y")), s.SaveMeta(ctx, "old", nil),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	chunk, _ := peer.Since(0, 1200)
	if _, err := s.Merge(chunk); err != nil {
		t.Fatal(err)
	}
	s.Merge(forged(peer, s, until))
	want, m := s.Root(Minute(now())), Minute(now())
	notices := s.Notices()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := openReal(t, path, "a", now)
	if again.Root(m) != want {
		t.Error("another root after opening again")
	}
	if got := again.Notices(); len(got) == 0 || fmt.Sprint(got) != fmt.Sprint(notices) {
		t.Errorf("notices %v, want %v", got, notices)
	}
	if v, ok := again.Meta("peers"); !ok || string(v) != "x" {
		t.Errorf("meta %q %v", v, ok)
	}
	if _, ok := again.Meta("old"); ok {
		t.Error("deleted meta is back")
	}
	if frozen, by := again.Frozen(); !frozen || by != "a" || fmt.Sprint(again.Blocked()) != "[rogue]" {
		t.Errorf("frozen %v by %s, blocked %v", frozen, by, again.Blocked())
	}
	if again.Head().Log == s.Head().Log || again.Head().Seq != 0 {
		t.Errorf("the log goes on: %v", again.Head())
	}
	if !again.Holds(s.Head().Log, s.Head().Seq) || !again.Holds(peer.Head().Log, 1) {
		t.Error("held ranges are lost")
	}
}

// forged is a peer's lift of what s itself banned, so that s has something to tell its fail2ban.
func forged(peer *node, s *Store, until Millis) []byte {
	own := s.List(Query{Prefix: pfx("192.0.2.1")})[0].Records[0]
	w := chunkMaker{id: LogID{"c", 7}}
	w.add(item{seq: 1, kind: KindLift, key: mustKey(pfx("192.0.2.1")), start: own.Start, until: until,
		lift: &liftBody{offences: []offence{{"a", own.Jail, own.Start}}}})
	return w.bytes()
}

func TestSecondAgentIsRefused(t *testing.T) {
	path := storePath(t)
	openReal(t, path, "a", nil)
	for range 2 {
		if _, err := Open(Config{Path: path, Origin: "a"}); !errors.Is(err, ErrLocked) {
			t.Fatalf("second open: %v, want ErrLocked", err)
		}
	}
	if _, err := ResetFile(path); !errors.Is(err, ErrLocked) {
		t.Errorf("reset below a running agent: %v, want ErrLocked", err)
	}
}

func TestDamagedFileIsRefusedAndKept(t *testing.T) {
	path := storePath(t)
	s := openReal(t, path, "a", nil)
	var reqs []BanRequest
	for i := range 3000 {
		reqs = append(reqs, BanRequest{Prefix: addr(i), Until: Never})
	}
	if _, err := s.Ban(context.Background(), reqs); err != nil {
		t.Fatal(err)
	}
	s.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(whole, "\x00"))
	damage := map[string]func([]byte) []byte{
		"empty":        func([]byte) []byte { return nil },
		"garbage":      func(b []byte) []byte { return bytes.Repeat([]byte("garbage "), 8192) },
		"both headers": func(b []byte) []byte { clear(b[:8192]); return b },
		"cut":          func(b []byte) []byte { return b[:used/2] },
	}
	for page := 2; page*4096 < used; page++ {
		damage[fmt.Sprintf("page %d zeroed", page)] = func(b []byte) []byte { clear(b[page*4096 : page*4096+4096]); return b }
	}
	for name, f := range damage {
		if err := os.WriteFile(path, f(bytes.Clone(whole)), 0o600); err != nil {
			t.Fatal(err)
		}
		bad, _ := os.ReadFile(path)
		s, err := Open(Config{Path: path, Origin: "a"})
		if err == nil { // a page that nothing refers to
			if n := len(s.List(Query{})); n != len(reqs) {
				t.Errorf("%s: opened with %d bans of %d", name, n, len(reqs))
			}
			s.Close()
			continue
		}
		var d *damagedError
		if !errors.Is(err, errDamaged) || !errors.As(err, &d) || d.Path != path || !strings.Contains(err.Error(), "--reset-store") {
			t.Errorf("%s: %v, want errDamaged, and the way out named", name, err)
		}
		if now, _ := os.ReadFile(path); !bytes.Equal(now, bad) {
			t.Errorf("%s: the damaged file was changed", name)
		}
	}
	aside, err := ResetFile(path)
	if err != nil || filepath.Dir(aside) != filepath.Dir(path) {
		t.Fatalf("reset: %q %v", aside, err)
	}
	if _, err := os.Stat(aside); err != nil {
		t.Errorf("the damaged file is not kept: %v", err)
	}
	openReal(t, path, "a", nil)
	if aside, err := ResetFile(filepath.Join(t.TempDir(), "none")); aside != "" || err != nil {
		t.Errorf("reset of nothing: %q %v", aside, err)
	}
}

// TestAnyFlippedByteIsFoundOrHarmless flips bytes all over a small file: it is refused, or opens with everything, or opens
// with all but the last transaction and says so.
func TestAnyFlippedByteIsFoundOrHarmless(t *testing.T) {
	path := storePath(t)
	s := openReal(t, path, "a", nil)
	for i := range 3 {
		if _, err := s.Ban(context.Background(), []BanRequest{{Prefix: addr(i), Until: Never}}); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused, doubted := 0, 0
	used := len(bytes.TrimRight(whole, "\x00"))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at := 0; at < used; at++ {
		if whole[at] == 0 && at%7 != 0 {
			continue
		}
		f.WriteAt([]byte{whole[at] ^ 0x41}, int64(at))
		doubt, err := tryOpen(path)
		var d *damagedError
		switch {
		case errors.As(err, &d):
			refused++
		case err == nil && doubt:
			doubted++
		case err != nil && !strings.Contains(err.Error(), "has format"):
			t.Errorf("byte %d: %v", at, err)
		}
		if _, err := f.WriteAt(whole, 0); err != nil {
			t.Fatal(err)
		}
	}
	if refused == 0 || doubted == 0 {
		t.Errorf("%d damages refused, %d doubted: one kind was never found", refused, doubted)
	}
}

// tryOpen opens the file and checks that the three bans are there, or two of them and a word about it.
func tryOpen(path string) (doubt bool, err error) {
	s, err := Open(Config{Path: path, Origin: "a"})
	if err != nil {
		return false, err
	}
	defer s.Close()
	n := len(s.List(Query{}))
	if n < 2 || n < 3 && s.Doubt() == "" {
		return false, fmt.Errorf("opened with %d bans and says %q", n, s.Doubt())
	}
	return s.Doubt() != "", nil
}

// TestADamagedNewestHeaderIsSaid: bbolt falls back to the older one, and the last transaction is gone without a trace.
func TestADamagedNewestHeaderIsSaid(t *testing.T) {
	path := storePath(t)
	var log bytes.Buffer
	reopen := func() *Store {
		t.Helper()
		log.Reset()
		return open(t, Config{Path: path, Origin: "a", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	}
	s := reopen()
	for i := range 4 {
		if _, err := s.Ban(context.Background(), []BanRequest{{Prefix: addr(i), Until: Never}}); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	newest, older := int64(0), int64(0)
	for at, txid := int64(0), uint64(0); at <= 4096; at += 4096 {
		if m, ok := parseMeta(whole[at:]); ok && m.txid >= txid {
			newest, older, txid = at, newest, m.txid
		}
	}
	if older == newest {
		older = 4096 - newest
	}
	for _, c := range []struct {
		at   int64
		want int
	}{{older, 4}, {newest, 3}} {
		b := bytes.Clone(whole)
		b[c.at+40] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s := reopen()
		if n := len(s.List(Query{})); n != c.want || !strings.Contains(s.Doubt(), path) || !strings.Contains(log.String(), "may be missing") {
			t.Errorf("header at %d damaged: %d bans, want %d; it says %q and logs %q", c.at, n, c.want, s.Doubt(), log.String())
		}
		// The next two transactions write both headers anew.
		for i := range 2 {
			if _, err := s.Ban(context.Background(), []BanRequest{{Prefix: addr(10 + i), Until: Never}}); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		s = reopen()
		if n := len(s.List(Query{})); n != c.want+2 || s.Doubt() != "" {
			t.Errorf("header at %d damaged: afterwards %d bans, and it says %q", c.at, n, s.Doubt())
		}
		s.Close()
	}
}

func TestFullDiskRefusesAcknowledgementAndGoesOnInMemory(t *testing.T) {
	for _, fault := range []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS} {
		t.Run(fault.Error(), func(t *testing.T) {
			a := newNode(t, "a", newClock(), nil)
			start := a.clock.millis()
			a.ban("192.0.2.1", time.Hour, startAt(start))
			a.disk.setFail(fault)
			_, err := a.Ban(context.Background(), []BanRequest{a.request("192.0.2.2", time.Hour)})
			if !errors.Is(err, fault) || !strings.Contains(err.Error(), "memory") {
				t.Fatalf("ban on a failing disk: %v, want the fault with the file's name", err)
			}
			if a.live("192.0.2.2") || a.Head().Seq != 1 {
				t.Error("what is not on disk is shown")
			}
			if got := a.ban("192.0.2.1", time.Hour, startAt(start)); got != BanKnown {
				t.Errorf("a repeat that needs no disk: %v, want known", got)
			}
		})
	}
}

func TestMergedRecordsSurviveADiskThatFailedForAWhile(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	b.ban("192.0.2.1", time.Hour)
	a.pull(b)
	eventually(t, "first merge on disk", func() bool { return a.disk.size() == 1 })
	a.disk.setFail(syscall.EIO)
	b.ban("192.0.2.2", time.Hour)
	b.ban("192.0.2.1", 2*time.Hour)
	a.pull(b)
	if !a.live("192.0.2.2") {
		t.Error("a merged ban is not visible while the disk fails")
	}
	eventually(t, "Health tells", func() bool { return errors.Is(a.Health(), syscall.EIO) })
	b.ban("192.0.2.3", time.Hour)
	a.pull(b)
	a.disk.setFail(nil)
	eventually(t, "Health recovers", func() bool { return a.Health() == nil })
	again := newNode(t, "a", c, a.disk.clone())
	equalSets(t, again, b)
	if n := a.disk.size(); n != 3 {
		t.Errorf("%d records on disk, want 3: the replaced one deleted", n)
	}
}

func TestFailedNumbersAreNotUsedAgain(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	a.ban("192.0.2.1", time.Hour)
	a.disk.setFail(errTest)
	a.Ban(context.Background(), []BanRequest{a.request("192.0.2.2", time.Hour)})
	a.disk.setFail(nil)
	a.ban("192.0.2.3", time.Hour)
	if got := a.Head().Seq; got != 3 {
		t.Errorf("head %d, want 3: number 2 may be on the disk with other content", got)
	}
	chunk, last := a.Since(0, 1200)
	if _, err := b.Merge(chunk); err != nil || last != 3 {
		t.Fatalf("since: last %d, %v", last, err)
	}
	if !b.Holds(a.Head().Log, 3) {
		t.Error("the number that was not used leaves a hole")
	}
	equalSets(t, a, b)
}

func TestSlowDiskHoldsUpNoReaderAndNoMerge(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	gate := make(chan struct{})
	a.disk.setGate(gate)
	acked := make(chan error, 1)
	go func() {
		_, err := a.Ban(context.Background(), []BanRequest{a.request("192.0.2.1", time.Hour)})
		acked <- err
	}()
	b.ban("192.0.2.2", time.Hour)
	a.pull(b)
	if !a.live("192.0.2.2") || a.live("192.0.2.1") {
		t.Error("merged bans are shown at once, own ones only when durable")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := a.Ban(ctx, []BanRequest{a.request("192.0.2.3", time.Hour)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("call with a deadline: %v", err)
	}
	select {
	case err := <-acked:
		t.Fatalf("acknowledged before the disk: %v", err)
	default:
	}
	close(gate)
	a.must(<-acked)
	if !a.live("192.0.2.1") {
		t.Error("acknowledged ban is not shown")
	}
}

func TestClosedStoreRefuses(t *testing.T) {
	a := newNode(t, "a", newClock(), nil)
	a.must(a.Close())
	if _, err := a.Ban(context.Background(), []BanRequest{a.request("192.0.2.1", time.Hour)}); !errors.Is(err, ErrClosed) {
		t.Errorf("ban: %v", err)
	}
	if _, err := a.Merge((&chunkMaker{id: LogID{"b", 1}}).bytes()); !errors.Is(err, ErrClosed) {
		t.Errorf("merge: %v", err)
	}
}

// size is how many records the volume holds.
func (v *Volume) size() (n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, records := range v.records {
		n += len(records)
	}
	return n
}
