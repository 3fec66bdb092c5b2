package fail2ban

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/store"
)

// withNotifier runs a test of the Notifier with the time of a synctest bubble.
func withNotifier(t *testing.T, jails []string, test func(t *testing.T, r *notifierRig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &notifierRig{t: t, server: newFakeServer(jails...), set: &fakeSet{}}
		test(t, r)
		r.stop()
	})
}

type notifierRig struct {
	t        *testing.T
	server   *fakeServer
	set      *fakeSet
	hooks    *Hooks
	notifier *Notifier
	cancel   context.CancelFunc
	ended    chan struct{}
}

func (r *notifierRig) start(change ...func(*NotifierConfig)) {
	r.hooks = NewHooks(HooksConfig{Set: r.set, Client: r.server.client()})
	c := NotifierConfig{Set: r.set, Client: r.server.client(), Hooks: r.hooks}
	for _, f := range change {
		f(&c)
	}
	r.notifier = NewNotifier(c)
	ctx, cancel := context.WithCancel(r.t.Context())
	r.cancel, r.ended = cancel, make(chan struct{})
	go func() {
		defer close(r.ended)
		r.notifier.Run(ctx)
	}()
	synctest.Wait()
}

func (r *notifierRig) stop() {
	if r.cancel != nil {
		r.cancel()
		<-r.ended
		r.cancel = nil
	}
}

// lifted queues the notice of a lifted ban of ten minutes.
func (r *notifierRig) lifted(jail, addr string, start time.Time) {
	r.set.mu.Lock()
	defer r.set.mu.Unlock()
	r.set.notices = append(r.set.notices, store.Notice{
		ID: uint64(len(r.set.notices) + 1), Kind: store.NoticeUnban, Prefix: prefix(r.t, addr), Jail: jail,
		Start: store.At(start), Until: store.At(start.Add(10 * time.Minute)),
	})
}

func (r *notifierRig) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *notifierRig) wantCalls(want ...string) {
	r.t.Helper()
	if got := r.server.did(); !slices.Equal(got, want) {
		r.t.Errorf("fail2ban was told\n%q, want\n%q", got, want)
	}
}

func (r *notifierRig) wantQueue(want int) {
	r.t.Helper()
	if got := r.set.Notices(); len(got) != want {
		r.t.Errorf("queue is %v, want %d notices", got, want)
	}
}

func (r *notifierRig) setDown(err error) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.server.down = err
}

func TestLiftIsToldToTheJailThatHoldsTheBan(t *testing.T) {
	withNotifier(t, []string{"sshd", "recidive"}, func(t *testing.T, r *notifierRig) {
		start := time.Now()
		r.server.hold("sshd", banned(t, "203.0.113.7", start, 10*time.Minute), banned(t, "203.0.113.8", start, 10*time.Minute))
		r.server.hold("recidive", banned(t, "203.0.113.7", start, time.Hour))
		r.start()
		r.lifted("sshd", "203.0.113.7", start)
		r.notifier.Poke()
		r.after(time.Millisecond)
		r.wantCalls("set sshd unbanip 203.0.113.7")
		r.wantQueue(0)
	})
}

func TestNotifierSparesANewerOffence(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		lifted := time.Now()
		r.server.hold("sshd", banned(t, "203.0.113.7", lifted.Add(3*time.Second), 10*time.Minute))
		r.lifted("sshd", "203.0.113.7", lifted)
		r.start()
		r.after(notifyEvery)
		r.wantCalls()
		r.wantQueue(0)
	})
}

// TestNotifierTellsOfABanThatAClockStepMadeLater: fail2ban's time of a ban is read with the present error of the clock. One
// that this router has not taken in is no later offence.
func TestNotifierTellsOfABanThatAClockStepMadeLater(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		lifted := time.Now()
		r.server.hold("sshd",
			banned(t, "203.0.113.7", lifted.Add(time.Hour), 10*time.Minute),
			banned(t, "203.0.113.8", lifted.Add(time.Hour), 10*time.Minute))
		r.lifted("sshd", "203.0.113.7", lifted)
		r.lifted("sshd", "203.0.113.8", lifted)
		r.start(func(c *NotifierConfig) {
			c.Holds = func(jail string, p netip.Prefix) bool { return p == prefix(t, "203.0.113.8") }
		})
		r.after(notifyEvery)
		r.wantCalls("set sshd unbanip 203.0.113.7")
		r.wantQueue(0)
	})
}

// TestNotifierWaitsWhereALaterBanMayBeOnItsWay: a ban that seems to have begun just now may be one that a step of the clock has
// made later. It goes where its hook has not come within a minute.
func TestNotifierWaitsWhereALaterBanMayBeOnItsWay(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		now := time.Now()
		lifted := now.Add(-5 * time.Minute)
		r.server.hold("sshd", banned(t, "203.0.113.7", now, time.Hour), banned(t, "203.0.113.8", now, time.Hour))
		r.lifted("sshd", "203.0.113.7", lifted)
		r.lifted("sshd", "203.0.113.8", lifted)
		var came atomic.Bool
		r.start(func(c *NotifierConfig) {
			c.Holds = func(jail string, p netip.Prefix) bool { return came.Load() && p == prefix(t, "203.0.113.8") }
		})
		r.after(notifyEvery)
		r.wantCalls()
		r.wantQueue(2)
		came.Store(true)
		r.after(notifyEvery)
		r.wantQueue(1)
		r.after(hookTime)
		r.wantCalls("set sshd unbanip 203.0.113.7")
		r.wantQueue(0)
	})
}

// TestNotifierPausesByNoClockThatSteps: a clock that is set back in a pause does not make it longer.
func TestNotifierPausesByNoClockThatSteps(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		start := time.Now()
		var step atomic.Int64
		r.server.hold("sshd", banned(t, "203.0.113.7", start, 10*time.Minute), banned(t, "203.0.113.8", start, 10*time.Minute))
		r.start(func(c *NotifierConfig) {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(step.Load())) }
		})
		r.lifted("sshd", "203.0.113.7", start)
		r.notifier.Poke()
		r.after(time.Millisecond)
		r.setDown(ErrNotRunning)
		r.lifted("sshd", "203.0.113.8", start)
		r.after(notifyEvery)
		step.Store(int64(-time.Hour))
		r.setDown(nil)
		r.after(retryFirst + notifyEvery)
		r.wantCalls("set sshd unbanip 203.0.113.7", "set sshd unbanip 203.0.113.8")
	})
}

func TestNotifierIgnoresTheUnbanHookItCauses(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		start := time.Now().Add(600 * time.Millisecond)
		r.server.hold("sshd", banned(t, "203.0.113.7", start, 10*time.Minute))
		r.server.onUnban = func(jail string, b Banned) {
			if _, err := r.hooks.Handle(context.Background(), sshd(EventUnban, start, time.Now())); err != nil {
				t.Error(err)
			}
		}
		r.lifted("sshd", "203.0.113.7", start)
		r.start()
		r.after(notifyEvery)
		r.wantCalls("set sshd unbanip 203.0.113.7")
		if got := r.set.lifted(); len(got) != 0 {
			t.Errorf("the echo lifted %+v", got)
		}
	})
}

func TestNotifierWaitsForFail2banAsLongAsTheBanLives(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		start := time.Now()
		r.server.hold("sshd", banned(t, "203.0.113.7", start, 10*time.Minute))
		r.setDown(ErrNotRunning)
		r.lifted("sshd", "203.0.113.7", start)
		r.start()
		r.after(4 * time.Minute)
		r.wantQueue(1)
		if why := r.notifier.Trouble(); why != "" {
			t.Errorf("a fail2ban that does not run goes on blocking: %s", why)
		}
		r.setDown(nil)
		r.after(retryMost + notifyEvery)
		r.wantCalls("set sshd unbanip 203.0.113.7")
		r.wantQueue(0)
	})
}

func TestNotifierGivesUpWhenTheBanHasEndedByItself(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		r.setDown(ErrNotRunning)
		r.lifted("sshd", "203.0.113.7", time.Now())
		r.start()
		r.after(10*time.Minute + retryMost + notifyEvery)
		r.wantQueue(0)
	})
}

func TestStartOfAJailEndsTheWaitingForIt(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		start := time.Now()
		r.setDown(ErrNotRunning)
		r.lifted("sshd", "203.0.113.7", start)
		r.start()
		r.after(time.Minute) // the pause is half a minute or more by now
		r.setDown(nil)
		r.server.hold("sshd", banned(t, "203.0.113.7", start, 10*time.Minute))
		handle(t, r.hooks, Call{Event: EventStart, Jail: "sshd"})
		r.after(time.Millisecond)
		r.wantCalls("set sshd unbanip 203.0.113.7")
	})
}

func TestBansByHandAreNoneOfFail2bansBusiness(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		r.lifted("manual", "203.0.113.7", time.Now())
		r.start()
		r.wantQueue(0)
		r.wantCalls()
	})
}

func TestNamesThatFail2banNeverHadAreForgottenSoon(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		r.lifted("blocklist", "203.0.113.7", time.Now())
		r.start()
		r.after(time.Second)
		r.wantQueue(1) // fail2ban may be starting
		r.after(2 * strangerGrace)
		r.wantQueue(0)
	})
}

func TestJailThatFail2banOnceHadIsWaitedForAcrossARestartOfTheAgent(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		start := time.Now()
		r.start()
		handle(t, r.hooks, sshd(EventBan, start, start))
		r.after(time.Millisecond)
		r.stop()

		jail := r.server.jails["sshd"]
		delete(r.server.jails, "sshd")
		r.lifted("sshd", "203.0.113.7", start)
		r.start()
		r.after(2 * strangerGrace)
		r.wantQueue(1)

		r.server.mu.Lock()
		r.server.jails["sshd"] = jail
		r.server.mu.Unlock()
		r.server.hold("sshd", banned(t, "203.0.113.7", start, 10*time.Minute))
		r.after(retryMost + notifyEvery)
		r.wantCalls("set sshd unbanip 203.0.113.7")
		r.wantQueue(0)
	})
}

func TestRouterWithoutFail2banDropsNotices(t *testing.T) {
	withNotifier(t, nil, func(t *testing.T, r *notifierRig) {
		r.setDown(ErrNoClient)
		r.lifted("manual", "203.0.113.7", time.Now())
		r.set.allow("198.51.100.0/24", time.Now().Add(time.Hour))
		r.start()
		r.after(time.Minute)
		r.wantQueue(0)
	})
}

func TestSilentNotifierDropsNotices(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		start := time.Now()
		r.server.hold("sshd", banned(t, "203.0.113.7", start, 10*time.Minute))
		r.lifted("sshd", "203.0.113.7", start)
		r.start(func(c *NotifierConfig) { c.Silent = true })
		r.wantQueue(0)
		r.wantCalls()
	})
}

func TestManyLiftsAreToldInBatches(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		start := time.Now()
		for i := range 60 {
			addr := "203.0.113." + string(rune('0'+i/10)) + string(rune('0'+i%10))
			if i < 10 {
				addr = "203.0.113." + string(rune('0'+i))
			}
			r.server.hold("sshd", banned(t, addr, start, 10*time.Minute))
			r.lifted("sshd", addr, start)
		}
		began := time.Now()
		r.start()
		r.after(10 * time.Second)
		r.wantQueue(0)
		if got := len(r.server.did()); got != 3 {
			t.Errorf("%d calls for 60 addresses, want 3 of at most %d", got, maxBatch)
		}
		if r.notifier.paused.Sub(began) < 3*batchPause {
			t.Errorf("batches followed each other without a pause")
		}
	})
}

func TestAllowIsToldForItsLife(t *testing.T) {
	withNotifier(t, []string{"recidive", "sshd"}, func(t *testing.T, r *notifierRig) {
		start := time.Now()
		r.server.hold("sshd", banned(t, "198.51.100.9", start, time.Hour), banned(t, "203.0.113.7", start, time.Hour))
		r.server.onUnban = func(jail string, b Banned) {
			c := Call{Event: EventUnban, Jail: jail, Prefix: b.Prefix, Start: b.Start, BanTime: b.BanTime}
			if _, err := r.hooks.Handle(context.Background(), c); err != nil {
				t.Error(err)
			}
		}
		r.set.allow("198.51.100.0/24", start.Add(time.Hour))
		r.start()
		r.after(time.Second)
		told := []string{
			"set recidive addignoreip 198.51.100.0/24",
			"set sshd addignoreip 198.51.100.0/24",
			"set sshd unbanip 198.51.100.9",
		}
		r.wantCalls(told...)
		r.wantQueue(0)
		if got := r.set.lifted(); len(got) != 0 {
			t.Errorf("a ban that is only covered was lifted: %+v", got)
		}
		r.after(time.Hour + notifyEvery)
		told = append(told, "set recidive delignoreip 198.51.100.0/24", "set sshd delignoreip 198.51.100.0/24")
		got := r.server.did()
		slices.Sort(got[3:])
		if !slices.Equal(got, told) {
			t.Errorf("fail2ban was told\n%q, want\n%q", got, told)
		}
	})
}

func TestAnAllowThatDoesNotCountIsNotTold(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		ignore := func(i int, why string) {
			r.set.mu.Lock()
			defer r.set.mu.Unlock()
			r.set.allows[i].Reason = why
		}
		r.server.hold("sshd", banned(t, "198.51.100.9", time.Now(), time.Hour))
		r.set.allow("198.51.100.0/24", time.Now().Add(time.Hour))
		r.set.allow("203.0.113.0/24", time.Now().Add(time.Hour))
		ignore(0, "over the limit of origin rogue")
		r.start()
		r.after(time.Second)
		r.wantCalls("set sshd addignoreip 203.0.113.0/24")
		ignore(1, "origin rogue is blocked")
		r.after(ignoreEvery + notifyEvery)
		r.wantCalls("set sshd addignoreip 203.0.113.0/24", "set sshd delignoreip 203.0.113.0/24")
	})
}

func TestAllowIsToldAgainWhenFail2banForgotIt(t *testing.T) {
	for name, again := range map[string]func(r *notifierRig){
		"restart": func(r *notifierRig) {
			handle(r.t, r.hooks, Call{Event: EventStart, Jail: "sshd"})
			r.after(time.Millisecond)
		},
		"reload, which tells nobody": func(r *notifierRig) { r.after(ignoreEvery + notifyEvery) },
	} {
		t.Run(name, func(t *testing.T) {
			withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
				r.set.allow("198.51.100.7", time.Now().Add(time.Hour))
				r.start()
				r.server.mu.Lock()
				r.server.jails["sshd"].ignored = nil
				r.server.mu.Unlock()
				again(r)
				r.wantCalls("set sshd addignoreip 198.51.100.7", "set sshd addignoreip 198.51.100.7")
			})
		})
	}
}

func TestIgnoreListOfTheOperatorIsLeftAlone(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		r.server.jails["sshd"].ignored = []string{"198.51.100.7", "127.0.0.0/8", "gw.example.org"}
		r.set.allow("198.51.100.7", time.Now().Add(time.Minute))
		r.start()
		r.after(time.Hour)
		r.wantCalls()
	})
}

func TestAllowThatEndedWhileTheAgentWasDownIsTakenOff(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		r.set.allow("198.51.100.7", time.Now().Add(time.Minute))
		r.start()
		r.stop()
		r.after(time.Hour)
		r.start()
		r.wantCalls("set sshd addignoreip 198.51.100.7", "set sshd delignoreip 198.51.100.7")
	})
}

// What keeps fail2ban from being told is known before there is anything to tell, and is over when fail2ban answers.
func TestANotifierKnowsThatItCannotNotify(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		r.setDown(ErrDenied)
		r.start()
		r.after(2 * lookEvery)
		if why := r.notifier.Trouble(); why != "" {
			t.Errorf("on a router where no jail has ever called: %s", why)
		}
		if _, err := r.hooks.Handle(context.Background(), Call{Event: EventStart, Jail: "sshd"}); err != nil {
			t.Fatal(err)
		}
		r.after(time.Second)
		if why := r.notifier.Trouble(); !strings.Contains(why, ErrDenied.Error()) {
			t.Errorf("Trouble() = %q", why)
		}
		r.setDown(nil)
		r.after(lookAgain + notifyEvery)
		if why := r.notifier.Trouble(); why != "" {
			t.Errorf("when fail2ban answers: %s", why)
		}
	})
}

// Somebody with the gossip key can make hundreds of thousands of allows. Looking each up among all others would take minutes, in
// which the agent would neither tell fail2ban of anything else nor stop.
func TestHundredsOfThousandsOfAllowsAreLookedThroughInSeconds(t *testing.T) {
	r := &notifierRig{t: t, server: newFakeServer("sshd"), set: &fakeSet{}}
	const many = 200_000
	notices := make([]store.Notice, many)
	for i := range many {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{60, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
		r.set.allows = append(r.set.allows, store.AllowEntry{Prefix: p, Until: store.At(time.Now().Add(time.Hour))})
		notices[i] = store.Notice{ID: uint64(i + 1), Kind: store.NoticeAllow, Prefix: p}
	}
	slices.Reverse(notices)
	n := NewNotifier(NotifierConfig{Set: r.set, Client: r.server.client(), Hooks: NewHooks(HooksConfig{Set: r.set, Client: r.server.client()})})
	began := time.Now()
	if err := n.notifyAllows(t.Context(), notices); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("one look through %d allows took %v", many, took)
	}
}
