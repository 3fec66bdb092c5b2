package spool_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/spool"
)

var base = time.UnixMilli(1_700_000_000_000)

func ban(at time.Time, prefix string) spool.Entry {
	return spool.Entry{Time: at, Ban: &control.BanCall{
		Prefixes: control.Prefixes{netip.MustParsePrefix(prefix)}, Jail: "sshd", Start: control.At(at), Until: control.Never,
	}}
}

// drain returns the prefixes of the bans in the order in which they were given.
func drain(t *testing.T, s *spool.Spool) ([]string, spool.Drained) {
	t.Helper()
	var got []string
	d, err := s.Drain(context.Background(), func(_ context.Context, e spool.Entry) error {
		got = append(got, e.Ban.Prefixes[0].String())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got, d
}

func put(t *testing.T, s *spool.Spool, e spool.Entry) {
	t.Helper()
	if err := s.Put(e); err != nil {
		t.Fatal(err)
	}
}

func newSpool(t *testing.T) *spool.Spool {
	return spool.New(filepath.Join(t.TempDir(), "data", "spool"))
}

func TestDrainGivesCallsInTheOrderOfTheirMaking(t *testing.T) {
	s := newSpool(t)
	var want []string
	for _, i := range []int{4, 1, 3, 0, 2} {
		put(t, s, ban(base.Add(time.Duration(i)*time.Nanosecond), fmt.Sprintf("203.0.113.%d/32", i)))
	}
	for i := range 5 {
		want = append(want, fmt.Sprintf("203.0.113.%d/32", i))
	}
	got, d := drain(t, s)
	if fmt.Sprint(got) != fmt.Sprint(want) || d.Applied != 5 {
		t.Errorf("got %v (%+v), want %v", got, d, want)
	}
	if n, err := s.Len(); n != 0 || err != nil {
		t.Errorf("after the drain %d wait (%v), want none", n, err)
	}
}

func TestAnEntryComesBackAsItWasPut(t *testing.T) {
	s := newSpool(t)
	hook := control.HookCall{Event: control.HookUnban, Jail: "sshd", Prefixes: control.Prefixes{netip.MustParsePrefix("2001:db8::/64")}, At: 1_700_000_000_123}
	unban := control.UnbanCall{All: true, Jail: "sshd", Confirmed: true, At: 5}
	put(t, s, spool.Entry{Time: base, Hook: &hook})
	put(t, s, spool.Entry{Time: base.Add(1), Unban: &unban})
	var got []spool.Entry
	if _, err := s.Drain(context.Background(), func(_ context.Context, e spool.Entry) error { got = append(got, e); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || fmt.Sprint(*got[0].Hook) != fmt.Sprint(hook) || fmt.Sprint(*got[1].Unban) != fmt.Sprint(unban) {
		t.Errorf("got %+v", got)
	}
}

func TestAnEntryStaysUntilItWasApplied(t *testing.T) {
	s := newSpool(t)
	for i := range 3 {
		put(t, s, ban(base.Add(time.Duration(i)), fmt.Sprintf("203.0.113.%d/32", i)))
	}
	full := errors.New("disk full")
	calls := 0
	d, err := s.Drain(context.Background(), func(context.Context, spool.Entry) error {
		if calls++; calls == 2 {
			return full
		}
		return nil
	})
	if !errors.Is(err, full) || d.Applied != 1 {
		t.Fatalf("got %+v, %v; want one applied and the disk's error", d, err)
	}
	if got, _ := drain(t, s); fmt.Sprint(got) != "[203.0.113.1/32 203.0.113.2/32]" {
		t.Errorf("second drain gave %v, want the failed one first and then the rest", got)
	}
}

func TestARefusedEntryDoesNotBlockTheRest(t *testing.T) {
	s := newSpool(t)
	put(t, s, ban(base, "203.0.113.1/32"))
	put(t, s, ban(base.Add(1), "203.0.113.2/32"))
	d, err := s.Drain(context.Background(), func(_ context.Context, e spool.Entry) error {
		if e.Ban.Prefixes[0].Addr() == netip.MustParseAddr("203.0.113.1") {
			return fmt.Errorf("too wide: %w", spool.ErrRefused)
		}
		return nil
	})
	if err != nil || d.Applied != 1 || len(d.Aside) != 1 {
		t.Fatalf("got %+v, %v; want one applied, one aside", d, err)
	}
	if kept, _ := filepath.Glob(filepath.Join(s.Dir(), "bad", "*.json")); len(kept) != 1 {
		t.Errorf("set aside: %v, want the refused one", kept)
	}
}

// good is the text of a valid entry; the cases spoil it.
const good = `{"version":1,"time":"2026-01-02T03:04:05.000Z","ban":{"prefixes":["203.0.113.9"],"jail":"sshd","start":"2026-01-02T03:04:05.000Z","until":null}}`

func TestWhatIsNoEntryIsSetAside(t *testing.T) {
	const name = "18b1f2f3f4f5f6f7-0123456789ab.json"
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	write := func(text string) func(path string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	replace := func(old, new string) func(string) error {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the good entry", old)
		}
		return write(strings.Replace(good, old, new, 1))
	}
	cases := []struct {
		what, name string
		make       func(path string) error
	}{
		{"a link to a good entry elsewhere", name, func(p string) error { return os.Symlink(outside, p) }},
		{"a link to nothing", name, func(p string) error { return os.Symlink("/nonexistent", p) }},
		{"a second name of a file elsewhere", name, func(p string) error { return os.Link(outside, p) }},
		{"a pipe", name, func(p string) error { return syscall.Mkfifo(p, 0o600) }},
		{"a directory", name, func(p string) error { return os.Mkdir(p, 0o700) }},
		{"a socket", name, func(p string) error {
			t.Chdir(filepath.Dir(p)) // the path may be longer than a socket's may
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
			if err != nil {
				return err
			}
			l.SetUnlinkOnClose(false)
			return l.Close()
		}},
		{"a foreign name", "notes.txt", write(good)},
		{"a name in capitals", "18B1F2F3F4F5F6F7-0123456789AB.json", write(good)},
		{"a name that climbs", "..json", write(good)},
		{"a file that everybody may write", name, func(p string) error {
			if err := os.WriteFile(p, []byte(good), 0o600); err != nil {
				return err
			}
			return os.Chmod(p, 0o666)
		}},
		{"nothing", name, write("")},
		{"garbage", name, write("\x00\xff{")},
		{"half an entry", name, write(good[:40])},
		{"two entries", name, write(good + good)},
		{"an unknown key", name, replace(`"jail"`, `"jial"`)},
		{"a newer version", name, replace(`"version":1`, `"version":2`)},
		{"no time", name, replace(`"time":"2026-01-02T03:04:05.000Z",`, ``)},
		{"no start", name, replace(`"start":"2026-01-02T03:04:05.000Z",`, ``)},
		{"no end", name, replace(`,"until":null`, ``)},
		{"the whole internet", name, replace(`203.0.113.9`, `0.0.0.0/0`)},
		{"a jail with a line break", name, replace(`"sshd"`, `"s\nshd"`)},
		{"no call", name, write(`{"version":1,"time":"2026-01-02T03:04:05.000Z"}`)},
	}
	for _, c := range cases {
		t.Run(c.what, func(t *testing.T) {
			s := newSpool(t)
			put(t, s, ban(base, "203.0.113.1/32"))
			put(t, s, ban(base.Add(1<<60), "203.0.113.2/32"))
			if err := c.make(filepath.Join(s.Dir(), c.name)); err != nil {
				t.Fatal(err)
			}
			got, d := drain(t, s)
			if fmt.Sprint(got) != "[203.0.113.1/32 203.0.113.2/32]" || len(d.Aside) != 1 {
				t.Errorf("gave %v, set aside %v; want the two good ones, and one aside", got, d.Aside)
			}
			if _, err := os.Lstat(filepath.Join(s.Dir(), "bad", c.name)); err != nil {
				t.Errorf("it is not kept for a look: %v", err)
			}
		})
	}
}

func TestTheGoodEntryOfTheCasesIsGood(t *testing.T) {
	s := newSpool(t)
	if err := os.MkdirAll(s.Dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), "18b1f2f3f4f5f6f7-0123456789ab.json"), []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, d := drain(t, s); len(got) != 1 || len(d.Aside) != 0 {
		t.Errorf("gave %v, aside %v", got, d.Aside)
	}
}

func TestASpoolThatEverybodyMayWriteIsNotBelieved(t *testing.T) {
	s := newSpool(t)
	put(t, s, ban(base, "203.0.113.1/32"))
	if err := os.Chmod(s.Dir(), 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := s.Drain(context.Background(), func(context.Context, spool.Entry) error { t.Error("an entry was given"); return nil })
	if err == nil || !strings.Contains(err.Error(), "chmod o-w") {
		t.Errorf("got %v, want a refusal that says what to do", err)
	}
}

func TestASpoolBehindALinkIsRefused(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "spool")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if err := spool.New(link).Put(ban(base, "203.0.113.1/32")); err == nil {
		t.Error("put followed the link")
	}
}

func TestAFullSpoolRefusesAndKeepsWhatItHas(t *testing.T) {
	s := newSpool(t)
	spool.SetMax(s, 3)
	for i := range 3 {
		put(t, s, ban(base.Add(time.Duration(i)), "203.0.113.1/32"))
	}
	if err := s.Put(ban(base, "203.0.113.2/32")); !errors.Is(err, spool.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	if got, _ := drain(t, s); len(got) != 3 {
		t.Errorf("%d entries left, want 3", len(got))
	}
}

func TestModesKeepOthersOut(t *testing.T) {
	s := newSpool(t)
	if err := s.Prepare(-1); err != nil {
		t.Fatal(err)
	}
	put(t, s, ban(base, "203.0.113.1/32"))
	files, _ := filepath.Glob(filepath.Join(s.Dir(), "*"))
	for path, want := range map[string]os.FileMode{s.Dir(): 0o700, files[0]: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v (%v), want %v", path, info.Mode(), err, want)
		}
	}
}

func TestASharedSpoolIsTheGroups(t *testing.T) {
	s := newSpool(t)
	if err := s.Prepare(os.Getegid()); err != nil {
		t.Fatal(err)
	}
	put(t, s, ban(base, "203.0.113.1/32"))
	files, _ := filepath.Glob(filepath.Join(s.Dir(), "*"))
	for path, want := range map[string]os.FileMode{s.Dir(): 0o770, files[0]: 0o660} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v (%v), want %v", path, info.Mode(), err, want)
		}
		if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != os.Geteuid() {
			t.Errorf("%s belongs to %d, want its maker %d", path, st.Uid, os.Geteuid())
		}
	}
}

func TestCallsOfTheSameMomentAreKeptBoth(t *testing.T) {
	s := newSpool(t)
	put(t, s, ban(base, "203.0.113.1/32"))
	put(t, s, ban(base, "203.0.113.2/32"))
	if got, _ := drain(t, s); len(got) != 2 {
		t.Errorf("got %v, want both", got)
	}
}

func TestOneDrainRunsAtATime(t *testing.T) {
	s := newSpool(t)
	put(t, s, ban(base, "203.0.113.1/32"))
	_, err := s.Drain(t.Context(), func(context.Context, spool.Entry) error {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.Drain(ctx, func(context.Context, spool.Entry) error {
			t.Error("the entry is applied by two at a time")
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the second drain: %v, want it to wait until its context ends", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPutsAndDrainsAtOnceLoseNothing(t *testing.T) {
	s := newSpool(t)
	const writers, each = 4, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := s.Put(ban(time.Now(), fmt.Sprintf("10.0.%d.%d/32", w, i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	seen := map[string]bool{}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for finished := false; !finished; {
		select {
		case <-done:
			finished = true
		default:
		}
		got, d := drain(t, s)
		for _, p := range got {
			seen[p] = true
		}
		if len(d.Aside)+len(d.Unread) > 0 {
			t.Fatalf("aside %v, unread %v", d.Aside, d.Unread)
		}
	}
	if len(seen) != writers*each {
		t.Errorf("%d calls came through, want %d", len(seen), writers*each)
	}
}

func TestDrainOfASpoolNeverUsed(t *testing.T) {
	if got, d := drain(t, newSpool(t)); len(got) != 0 || d.Applied != 0 {
		t.Errorf("gave %v", got)
	}
}
