package spool_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/mesh/control"
	"banmesh/mesh/spool"
)

// What waits is done later than it was asked for: each call must say by itself when that was.
func TestACallWithoutItsTimeIsNotKept(t *testing.T) {
	hook := control.HookCall{Event: control.HookFlush, Jail: "sshd"}
	unban := control.UnbanCall{All: true, Confirmed: true}
	noStart := ban(base, "203.0.113.1/32")
	noStart.Ban.Start = 0
	for what, e := range map[string]spool.Entry{
		"hook": {Time: base, Hook: &hook}, "unban": {Time: base, Unban: &unban}, "ban": noStart, "entry": {Ban: ban(base, "203.0.113.1/32").Ban},
	} {
		s := newSpool(t)
		if err := s.Put(e); err == nil || !strings.Contains(err.Error(), what+" without its") {
			t.Errorf("%s: got %v", what, err)
		}
		if n, err := s.Len(); n != 0 || err != nil {
			t.Errorf("%s: %d wait, %v", what, n, err)
		}
	}
}

func TestAnEntryOfAnySizeIsBounded(t *testing.T) {
	s := newSpool(t)
	put(t, s, ban(base, "203.0.113.1/32"))
	// A file that grew by somebody's hand is set aside and not read.
	names, err := os.ReadDir(s.Dir())
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	if err := os.Truncate(filepath.Join(s.Dir(), names[0].Name()), 16<<20+1); err != nil {
		t.Fatal(err)
	}
	if got, d := drain(t, s); len(got) != 0 || len(d.Aside) != 1 || !strings.Contains(d.Aside[0].Error(), "more than an entry has") {
		t.Errorf("gave %v, aside %v", got, d.Aside)
	}
}

func TestACallOfAnySizeIsBounded(t *testing.T) {
	s := newSpool(t)
	e := ban(base, "203.0.113.1/32")
	one := control.OneBan{Prefix: e.Ban.Prefixes[0], Jail: "sshd", Start: e.Ban.Start, Until: control.Never, Reason: strings.Repeat(`"`, 200)}
	e.Ban = &control.BanCall{Each: slices.Repeat(control.OneBans{one}, 50_000), Start: e.Ban.Start}
	if err := s.Put(e); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("got %v, want a refusal", err)
	}
	if n, err := s.Len(); n != 0 || err != nil {
		t.Errorf("%d wait, %v; want none", n, err)
	}
}

// A call that cannot be read now is no bad one: it stays for the next drain, and the others do not wait for it.
func TestAnEntryThatCannotBeReadNowStays(t *testing.T) {
	s := newSpool(t)
	for i := range 3 {
		put(t, s, ban(base.Add(time.Duration(i)), "203.0.113."+string(rune('1'+i))+"/32"))
	}
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	limit := func(n uint64) {
		r := was
		r.Cur = n
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
			t.Fatal(err)
		}
	}
	defer limit(was.Cur)
	d, err := s.Drain(t.Context(), func(context.Context, spool.Entry) error { limit(0); return nil })
	limit(was.Cur)
	if err != nil || d.Applied != 1 || len(d.Unread) != 2 || len(d.Aside) != 0 || !strings.Contains(d.Unread[0].Error(), s.Dir()) {
		t.Errorf("no file can be opened: %+v, %v", d, err)
	}
	if got, d := drain(t, s); strings.Join(got, " ") != "203.0.113.2/32 203.0.113.3/32" || len(d.Unread) != 0 {
		t.Errorf("later: %v, %+v", got, d)
	}
}

// An entry that is gone was applied by another drain. One that cannot be removed ends the drain: it would be applied for ever.
func TestAnEntryThatGoesMeanwhile(t *testing.T) {
	s := newSpool(t)
	for i := range 3 {
		put(t, s, ban(base.Add(time.Duration(i)), "203.0.113."+string(rune('1'+i))+"/32"))
	}
	names, err := os.ReadDir(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	remove := func(i int) error { return os.Remove(filepath.Join(s.Dir(), names[i].Name())) }
	given := 0
	d, err := s.Drain(t.Context(), func(context.Context, spool.Entry) error {
		if given++; given == 1 {
			return remove(1)
		}
		return nil
	})
	if err != nil || d.Applied != 2 || len(d.Aside)+len(d.Unread) != 0 {
		t.Errorf("the second was removed during the first: %+v, %v; want the other two applied", d, err)
	}
	put(t, s, ban(base, "203.0.113.1/32"))
	if names, err = os.ReadDir(s.Dir()); err != nil {
		t.Fatal(err)
	}
	if d, err := s.Drain(t.Context(), func(context.Context, spool.Entry) error { return remove(0) }); err == nil || d.Applied != 1 {
		t.Errorf("an applied entry cannot be removed: %+v, %v; want an error", d, err)
	}
}

// A file that a command is still writing is left alone, one that a killed command left behind goes.
func TestScrapsOfKilledCommandsGo(t *testing.T) {
	s := newSpool(t)
	put(t, s, ban(base, "203.0.113.1/32"))
	young, old := filepath.Join(s.Dir(), ".new-young"), filepath.Join(s.Dir(), ".new-old")
	for _, path := range []string{young, old} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ago := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(old, ago, ago); err != nil {
		t.Fatal(err)
	}
	if got, d := drain(t, s); len(got) != 1 || len(d.Aside)+len(d.Unread) != 0 {
		t.Errorf("gave %v, %+v", got, d)
	}
	if _, err := os.Lstat(young); err != nil {
		t.Errorf("the young one: %v", err)
	}
	if _, err := os.Lstat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old one: %v", err)
	}
}

// What was set aside is skipped by every later drain, and the newest thousand are kept.
func TestWhatIsSetAsideIsBounded(t *testing.T) {
	s := newSpool(t)
	put(t, s, ban(base, "203.0.113.1/32"))
	bad := filepath.Join(s.Dir(), "bad")
	if err := os.Mkdir(bad, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if err := os.WriteFile(filepath.Join(bad, string(rune('a'+i/100))+string(rune('a'+i/10%10))+string(rune('a'+i%10))), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const junk = "0000000000000001-0123456789ab.json"
	if err := os.WriteFile(filepath.Join(s.Dir(), junk), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, d := drain(t, s); len(got) != 1 || len(d.Aside) != 1 || d.Applied != 1 {
		t.Errorf("gave %v, %+v", got, d)
	}
	kept, err := os.ReadDir(bad)
	if err != nil || len(kept) != 1000 || kept[0].Name() != junk {
		t.Errorf("%d are kept, %v; want 1000 with the new one", len(kept), err)
	}
	if _, err := os.Lstat(filepath.Join(bad, "aaa")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the oldest is still there: %v", err)
	}
}

func TestADrainEndsWithItsContext(t *testing.T) {
	s := newSpool(t)
	put(t, s, ban(base, "203.0.113.1/32"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := s.Drain(ctx, func(context.Context, spool.Entry) error {
		t.Error("a call was made")
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if n, err := s.Len(); n != 1 || err != nil {
		t.Errorf("%d wait, %v; want the one", n, err)
	}
}

func TestADrainEndsBetweenTwoEntries(t *testing.T) {
	s := newSpool(t)
	put(t, s, ban(base, "203.0.113.1/32"))
	put(t, s, ban(base.Add(1), "203.0.113.2/32"))
	ctx, cancel := context.WithCancel(t.Context())
	d, err := s.Drain(ctx, func(context.Context, spool.Entry) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) || d.Applied != 1 {
		t.Errorf("got %+v, %v; want one applied and the context's error", d, err)
	}
}

// What root's fail2ban spools is the agent's, who need not be root: the directories that it had to make, and the entry.
func TestWhatRootSpoolsIsTheAgents(t *testing.T) {
	need.Root(t)
	const nobody = 65534
	data := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(data, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	s := spool.New(filepath.Join(data, "deep", "spool"))
	put(t, s, ban(base, "203.0.113.1/32"))
	names, err := os.ReadDir(s.Dir())
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	for _, path := range []string{filepath.Join(data, "deep"), s.Dir(), filepath.Join(s.Dir(), names[0].Name())} {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st := info.Sys().(*syscall.Stat_t); st.Uid != nobody || st.Gid != nobody {
			t.Errorf("%s is of %d:%d", path, st.Uid, st.Gid)
		}
	}
	if err := s.Prepare(os.Getegid()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(s.Dir()); err != nil || info.Sys().(*syscall.Stat_t).Uid != nobody {
		t.Errorf("shared with a group it is no longer its owner's: %v, %v", info, err)
	}
}

func TestASpoolThatIsAFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := spool.New(path)
	if err := s.Put(ban(base, "203.0.113.1/32")); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("put: %v", err)
	}
	if _, err := s.Len(); err == nil {
		t.Error("its length is known")
	}
}
