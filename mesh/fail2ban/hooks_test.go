package fail2ban

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/store"
)

// sshd is a call of the jail sshd about 203.0.113.7, banned at start for ten
// minutes.
func sshd(event Event, start time.Time, called time.Time) Call {
	return Call{
		Event: event, Jail: "sshd", Prefix: netip.MustParsePrefix("203.0.113.7/32"),
		Start: start, BanTime: 10 * time.Minute, Failures: 2, Called: called,
	}
}

func handle(t *testing.T, h *Hooks, c Call) {
	t.Helper()
	if _, err := h.Handle(t.Context(), c); err != nil {
		t.Fatalf("%s: %v", c.Event, err)
	}
}

func TestBanEndsAtStartPlusBantimeAlsoWhenRepeatedAfterARestart(t *testing.T) {
	set := &fakeSet{}
	h := NewHooks(HooksConfig{Set: set})
	start := time.Now().Add(-5 * time.Minute)
	replay := sshd(EventBan, start, time.Now())
	replay.Restored = true
	handle(t, h, sshd(EventBan, start, start))
	handle(t, h, replay)
	for i, got := range set.bans {
		want := store.BanRequest{
			Prefix: netip.MustParsePrefix("203.0.113.7/32"), Jail: "sshd", Failures: 2,
			Start: store.At(start), Until: store.At(start.Add(10 * time.Minute)), Restored: i == 1,
		}
		if got != want {
			t.Errorf("ban %d: got %+v, want %+v", i, got, want)
		}
	}
	if len(set.bans) != 2 {
		t.Errorf("got %d bans, want 2", len(set.bans))
	}
}

func TestABanThatDoesNotCountIsSaid(t *testing.T) {
	for outcome, want := range map[store.BanOutcome]string{
		store.BanNew: "", store.BanKnown: "", store.BanExtended: "", store.BanExpired: "",
		store.BanStaysLifted: "stays unbanned", store.BanOverLimit: "not shared",
	} {
		h := NewHooks(HooksConfig{Set: &fakeSet{outcome: outcome}})
		note, err := h.Handle(t.Context(), sshd(EventBan, time.Now(), time.Now()))
		if err != nil || (note == "") != (want == "") || !strings.HasPrefix(note, want) {
			t.Errorf("%v: got %q, %v; want %q", outcome, note, err, want)
		}
	}
}

func TestBanWithoutEnd(t *testing.T) {
	set := &fakeSet{}
	c := sshd(EventBan, time.Now(), time.Now())
	c.BanTime = -1
	handle(t, NewHooks(HooksConfig{Set: set}), c)
	if got := set.bans[0].Until; got != store.Never {
		t.Errorf("got until %d, want Never", got)
	}
}

func TestProlongIsTheSameOffenceWithALaterEnd(t *testing.T) {
	set := &fakeSet{}
	h := NewHooks(HooksConfig{Set: set})
	start := time.Now()
	longer := sshd(EventProlong, start, start)
	longer.BanTime = time.Hour
	handle(t, h, longer)
	got := set.bans[0]
	if got.Start != store.At(start) || got.Until != store.At(start.Add(time.Hour)) || got.Restored {
		t.Errorf("got %+v", got)
	}
}

func TestUnbanIsAHumansOnlyBeforeTheTimeIsOver(t *testing.T) {
	start := time.Now().Add(-9 * time.Minute)
	end := start.Add(10 * time.Minute)
	for _, test := range []struct {
		name    string
		called  time.Time
		bantime time.Duration
		lifts   int
	}{
		{"a minute before its time is over", end.Add(-time.Minute), 10 * time.Minute, 1},
		{"a second before: rounding", end.Add(-time.Second), 10 * time.Minute, 0},
		{"when its time is over", end, 10 * time.Minute, 0},
		{"long after", end.Add(time.Hour), 10 * time.Minute, 0},
		{"without end", end.Add(time.Hour), -1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			set := &fakeSet{}
			c := sshd(EventUnban, start, test.called)
			c.BanTime = test.bantime
			handle(t, NewHooks(HooksConfig{Set: set}), c)
			if len(set.lifts) != test.lifts {
				t.Fatalf("got %d lifts, want %d", len(set.lifts), test.lifts)
			}
			if test.lifts == 0 {
				return
			}
			got := set.lifts[0]
			if got.Jail != "sshd" || !got.Mine || !got.FromFail2ban || got.All || len(got.Prefixes) != 1 || got.Prefixes[0] != c.Prefix {
				t.Errorf("got %+v: must lift this router's own ban of that jail only", got)
			}
			if got.StartedBefore <= store.At(start) || got.StartedBefore > store.At(start.Add(5*time.Second)) {
				t.Errorf("started_before is %v after the start: must spare a newer offence", got.StartedBefore-store.At(start))
			}
		})
	}
}

func TestSpooledUnbanIsJudgedByWhenItWasCalled(t *testing.T) {
	set := &fakeSet{}
	start := time.Now().Add(-time.Hour)
	handle(t, NewHooks(HooksConfig{Set: set}), sshd(EventUnban, start, start.Add(time.Minute)))
	if len(set.lifts) != 1 {
		t.Errorf("a human's unban that lay in the spool was taken for an expiry")
	}
}

func TestUnbanThatWeToldIsIgnoredOnce(t *testing.T) {
	set := &fakeSet{}
	h := NewHooks(HooksConfig{Set: set})
	start := time.Now().Truncate(time.Second).Add(700 * time.Millisecond)
	h.expect("sshd", []Banned{banned(t, "203.0.113.7", start, 10*time.Minute)})

	other := sshd(EventUnban, start, start)
	other.Jail = "recidive"
	handle(t, h, other)
	if len(set.lifts) != 1 {
		t.Fatal("an unban of another jail was ignored")
	}
	handle(t, h, sshd(EventUnban, start, start))
	if len(set.lifts) != 1 {
		t.Fatal("the echo of our own telling lifted a ban")
	}
	handle(t, h, sshd(EventUnban, start, start))
	if len(set.lifts) != 2 {
		t.Error("a second unban was ignored: only one was told")
	}
}

func TestJailsThatAreNotSharedSayNothing(t *testing.T) {
	set := &fakeSet{}
	h := NewHooks(HooksConfig{Set: set, Shares: func(jail string) bool { return jail != "sshd" }})
	handle(t, h, sshd(EventBan, time.Now(), time.Now()))
	handle(t, h, sshd(EventUnban, time.Now(), time.Now()))
	if len(set.bans)+len(set.lifts) != 0 {
		t.Errorf("got %v and %v", set.bans, set.lifts)
	}
}

func TestBadCallsAreRefused(t *testing.T) {
	h := NewHooks(HooksConfig{Set: &fakeSet{}})
	for _, c := range []Call{
		{},
		{Event: EventBan, Jail: "sshd"},
		{Event: "banana", Jail: "sshd"},
		{Event: EventUnban, Jail: "sshd", Prefix: netip.MustParsePrefix("203.0.113.7/32")},
		{Event: EventStop},
	} {
		if _, err := h.Handle(t.Context(), c); !errors.Is(err, ErrBadCall) {
			t.Errorf("%+v: got %v, want ErrBadCall", c, err)
		}
	}
}

func TestErrorOfTheSetIsPassedOn(t *testing.T) {
	full := errors.New("disk full")
	h := NewHooks(HooksConfig{Set: &fakeSet{err: full}})
	if _, err := h.Handle(t.Context(), sshd(EventBan, time.Now(), time.Now())); !errors.Is(err, full) {
		t.Errorf("got %v: the caller must know that the ban is not on disk", err)
	}
}

// flushing runs a test of flushes with the time of a synctest bubble.
func flushing(t *testing.T, test func(t *testing.T, server *fakeServer, set *fakeSet, h *Hooks)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server, set := newFakeServer("sshd"), &fakeSet{}
		h := NewHooks(HooksConfig{Set: set, Client: server.client()})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			h.Run(ctx)
		}()
		time.Sleep(time.Second)
		test(t, server, set, h)
		cancel()
		<-ended
	})
}

func flushOf(jail string) Call { return Call{Event: EventFlush, Jail: jail} }

func TestFlushOfAJailThatStaysEmptyLiftsItsBans(t *testing.T) {
	flushing(t, func(t *testing.T, server *fakeServer, set *fakeSet, h *Hooks) {
		at := time.Now()
		handle(t, h, flushOf("sshd"))
		time.Sleep(flushFirst + flushConfirm + time.Second)
		synctest.Wait()
		lifts := set.lifted()
		if len(lifts) != 1 {
			t.Fatalf("got %d lifts, want 1", len(lifts))
		}
		if got := lifts[0]; !got.All || !got.Mine || got.Jail != "sshd" || !got.FromFail2ban || got.StartedBefore != store.At(at) {
			t.Errorf("got %+v", got)
		}
		time.Sleep(time.Hour)
		if got := len(set.lifted()); got != 1 {
			t.Errorf("lifted again: %d", got)
		}
	})
}

func TestFlushOfAStoppingJailLiftsNothing(t *testing.T) {
	for name, after := range map[string]Call{
		"stopped":       {Event: EventStop, Jail: "sshd"},
		"started":       {Event: EventStart, Jail: "sshd"},
		"replays a ban": {Event: EventBan, Jail: "sshd", Prefix: netip.MustParsePrefix("203.0.113.7/32"), Start: time.Unix(1, 0), BanTime: -1, Restored: true},
	} {
		t.Run(name, func(t *testing.T) {
			flushing(t, func(t *testing.T, server *fakeServer, set *fakeSet, h *Hooks) {
				handle(t, h, flushOf("sshd"))
				// Between the two looks: the first one found the jail empty.
				time.Sleep(flushFirst + flushConfirm/2)
				handle(t, h, after)
				time.Sleep(time.Hour)
				if got := set.lifted(); len(got) != 0 {
					t.Errorf("lifted %+v", got)
				}
			})
		})
	}
}

func TestFlushLiftsNothingWhileFail2banCannotBeAsked(t *testing.T) {
	flushing(t, func(t *testing.T, server *fakeServer, set *fakeSet, h *Hooks) {
		server.mu.Lock()
		server.down = ErrNotRunning
		server.mu.Unlock()
		handle(t, h, flushOf("sshd"))
		time.Sleep(flushPatience + 2*flushRetry)
		server.mu.Lock()
		server.down = nil
		server.mu.Unlock()
		time.Sleep(time.Hour)
		if got := set.lifted(); len(got) != 0 {
			t.Errorf("lifted %+v", got)
		}
	})
}

func TestFlushIsClearedUpAfterMinutesOfUnbanning(t *testing.T) {
	flushing(t, func(t *testing.T, server *fakeServer, set *fakeSet, h *Hooks) {
		server.mu.Lock()
		server.down = ErrTimeout
		server.mu.Unlock()
		handle(t, h, flushOf("sshd"))
		time.Sleep(10 * time.Minute)
		server.mu.Lock()
		server.down = nil
		server.mu.Unlock()
		time.Sleep(flushRetry + flushConfirm + time.Second)
		synctest.Wait()
		if got := len(set.lifted()); got != 1 {
			t.Errorf("got %d lifts, want 1", got)
		}
	})
}

func TestFlushSparesWhatIsStillBanned(t *testing.T) {
	flushing(t, func(t *testing.T, server *fakeServer, set *fakeSet, h *Hooks) {
		server.hold("sshd", banned(t, "203.0.113.7", time.Now().Add(-time.Minute), time.Hour))
		handle(t, h, flushOf("sshd"))
		time.Sleep(time.Hour)
		if got := set.lifted(); len(got) != 0 {
			t.Errorf("lifted %+v although fail2ban still holds an older ban", got)
		}
	})
}

func TestFlushIsNotHeldUpByNewBans(t *testing.T) {
	flushing(t, func(t *testing.T, server *fakeServer, set *fakeSet, h *Hooks) {
		flushed := time.Now()
		handle(t, h, flushOf("sshd"))
		// Its log line was older than the flush and was read after it.
		start := flushed.Add(-time.Second)
		server.hold("sshd", banned(t, "203.0.113.7", start, 10*time.Minute), banned(t, "203.0.113.8", flushed.Add(time.Second), 10*time.Minute))
		handle(t, h, sshd(EventBan, start, flushed.Add(time.Second)))
		time.Sleep(flushFirst + flushConfirm + time.Second)
		synctest.Wait()
		lifts := set.lifted()
		if len(lifts) != 1 {
			t.Fatalf("got %d lifts, want 1", len(lifts))
		}
		if got := lifts[0].StartedBefore; got > store.At(start) {
			t.Errorf("lifts a ban that fail2ban holds: started_before %v, the ban started %v", got, store.At(start))
		}
	})
}
