package jail

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/enforce"
	"banmesh/mesh/fail2ban"
	"banmesh/store"
)

func TestPeersBansAreFedAndLifted(t *testing.T) {
	running(t, 10, func(r *rig) {
		r.ban("203.0.113.7/32")
		r.ban("2001:db8::/64")
		r.ban("203.0.113.8/32", own)
		r.pass(3 * time.Second)
		r.want("203.0.113.7/32", "2001:db8::/64")
		r.wantState(enforce.On, 2, "")

		t.Log("a peer bans what this router has banned")
		r.ban("203.0.113.8/32")
		r.lift("203.0.113.7/32")
		r.pass(3 * time.Second)
		r.want("203.0.113.8/32", "2001:db8::/64")

		t.Log("only the own ban is left")
		r.ban("203.0.113.8/32", own)
		r.pass(3 * time.Second)
		r.want("2001:db8::/64")
	})
}

func TestHolesAreLeftOut(t *testing.T) {
	running(t, 10, func(r *rig) {
		r.ban("203.0.113.0/30", func(e *store.EffectiveBan) {
			e.Pieces = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/31"), netip.MustParsePrefix("203.0.113.3/32")}
		})
		r.pass(3 * time.Second)
		r.want("203.0.113.0/31", "203.0.113.3/32")
	})
}

func TestNothingIsFedBeforeTheFirstExchange(t *testing.T) {
	running(t, 10, func(r *rig) {
		r.stop()
		r.settled.Store(false)
		r.start(10)
		r.jail.hold(netip.MustParsePrefix("203.0.113.9/32"))
		r.ban("203.0.113.7/32")
		r.pass(2 * time.Minute)
		r.want("203.0.113.9/32")
		r.wantState(enforce.Waiting, 0, "")
		r.settled.Store(true)
		r.pass(time.Second)
		r.want("203.0.113.7/32")
	})
}

func TestNewestAreFedWithinTheLimit(t *testing.T) {
	running(t, 2, func(r *rig) {
		for i := range 5 {
			r.ban(fmt.Sprintf("203.0.113.%d/32", i+1))
			r.pass(5 * time.Second)
		}
		r.want("203.0.113.4/32", "203.0.113.5/32")
		r.wantState(enforce.Limited, 2, "peers have 5 bans, the newest 2 of them are in fail2ban's jail mesh")
		r.lift("203.0.113.5/32")
		r.pass(5 * time.Second)
		r.want("203.0.113.3/32", "203.0.113.4/32")
		for _, p := range []string{"203.0.113.4/32", "203.0.113.2/32"} {
			r.lift(p)
		}
		r.pass(5 * time.Second)
		r.wantState(enforce.On, 2, "")
	})
}

func TestFreezeStopsAdditionsOnly(t *testing.T) {
	running(t, 2, func(r *rig) {
		r.ban("203.0.113.1/32")
		r.ban("203.0.113.2/32")
		r.pass(3 * time.Second)
		r.set.mu.Lock()
		r.set.frozen = true
		r.set.mu.Unlock()
		r.pass(time.Second)
		r.ban("203.0.113.3/32") // newer than what the limit leaves room for
		r.pass(5 * time.Second)
		r.want("203.0.113.1/32", "203.0.113.2/32")
		r.wantState(enforce.Frozen, 2, "frozen by router2")
		r.lift("203.0.113.1/32")
		r.pass(5 * time.Second)
		r.want("203.0.113.2/32")
		r.set.mu.Lock()
		r.set.frozen = false
		r.set.mu.Unlock()
		r.Changed(store.Change{Events: []store.Event{{Kind: store.EventThaw}}})
		r.pass(5 * time.Second)
		r.want("203.0.113.2/32", "203.0.113.3/32")
	})
}

func TestStormCostsFewCallsAndLittleOfFail2bansTime(t *testing.T) {
	running(t, 1000, func(r *rig) {
		r.jail.set(func() { r.jail.cost = 6 * time.Millisecond })
		for i := range 1000 {
			r.ban(fmt.Sprintf("203.0.%d.%d/32", i/250, i%250+1))
		}
		r.pass(30 * time.Second)
		r.wantState(enforce.On, 1000, "")
		calls := len(r.jail.did())
		if calls > 15 || time.Duration(r.jail.largest)*r.jail.cost > 2*slow {
			t.Errorf("%d calls, up to %d prefixes in one", calls, r.jail.largest)
		}

		t.Log("a stream of bans does not cost a call each")
		for i := range 60 {
			r.ban(fmt.Sprintf("198.51.100.%d/32", i+1))
			r.lift(fmt.Sprintf("203.0.%d.%d/32", i/250, i%250+1))
			r.pass(time.Second)
		}
		if got := len(r.jail.did()) - calls; got > 2*31 {
			t.Errorf("60 bans in a minute cost %d calls", got)
		}
	})
}

func TestSlowFail2banIsGivenLessAtATime(t *testing.T) {
	running(t, 1000, func(r *rig) {
		r.jail.set(func() { r.jail.cost = 200 * time.Millisecond })
		for i := range 100 {
			r.ban(fmt.Sprintf("203.0.113.%d/32", i+1))
		}
		r.pass(2 * time.Minute)
		calls := r.jail.did()
		if last := calls[len(calls)-1]; strings.Count(last, "/32") > batchLeast+1 {
			t.Errorf("last call %q, want at most %d bans", last, batchLeast)
		}
		r.wantState(enforce.On, 100, "")
	})
}

func TestVeryLargeSetIsNotWalkedAllTheTime(t *testing.T) {
	running(t, 1, func(r *rig) {
		r.set.mu.Lock()
		r.set.cost = time.Second
		r.set.mu.Unlock()
		r.pass(2 * time.Minute)
		before := r.set.walked()
		for i := range 100 {
			r.ban(fmt.Sprintf("203.0.113.%d/32", i+1))
			r.pass(time.Second)
		}
		if got := r.set.walked() - before; got > 7 {
			t.Errorf("%d walks of a second within 100 s", got)
		}
	})
}

func TestJailIsComparedEachMinute(t *testing.T) {
	running(t, 10, func(r *rig) {
		r.ban("203.0.113.7/32")
		r.pass(20 * time.Second)
		before := len(r.jail.did())
		r.pass(10 * time.Minute)
		if got := len(r.jail.did()); got != before {
			t.Errorf("%d changes while nothing changed", got-before)
		}
		r.jail.set(func() { clear(r.jail.held) }) // without a hook: fail2ban lost its database
		r.jail.hold(netip.MustParsePrefix("198.51.100.1/32"))
		r.pass(lookEvery + time.Second)
		r.want("203.0.113.7/32")
	})
}

func TestUnbanByHandHoldsUntilANewerOffence(t *testing.T) {
	running(t, 10, func(r *rig) {
		r.ban("203.0.113.7/32")
		r.ban("203.0.113.8/32")
		r.pass(5 * time.Second)
		r.jail.letGo(netip.MustParsePrefix("203.0.113.7/32"))
		r.pass(10 * time.Minute)
		r.want("203.0.113.8/32")

		t.Log("fail2ban starts anew, with an empty database; the agent restarts")
		r.jail.set(func() { clear(r.jail.held) })
		r.Started()
		r.pass(5 * time.Second)
		r.want("203.0.113.8/32")
		r.stop()
		r.jail.set(func() { clear(r.jail.held) })
		r.start(10)
		r.pass(5 * time.Second)
		r.want("203.0.113.8/32")

		t.Log("the address offends again")
		r.ban("203.0.113.7/32")
		r.pass(5 * time.Second)
		r.want("203.0.113.7/32", "203.0.113.8/32")
		r.pass(2 * lookEvery)
		if raw, _ := r.set.Meta(bookKey); strings.Contains(string(raw), "203.0.113.7") {
			t.Errorf("the book still has %s", raw)
		}
	})
}

func TestOwnUnbansAreNotTakenForAHumans(t *testing.T) {
	running(t, 10, func(r *rig) {
		r.ban("203.0.113.7/32")
		r.pass(5 * time.Second)
		newest := r.set.bans[netip.MustParsePrefix("203.0.113.7/32")].Newest
		r.lift("203.0.113.7/32") // for instance: an allow covers it
		r.pass(5 * time.Second)
		r.want()
		r.ban("203.0.113.7/32", func(e *store.EffectiveBan) { e.Newest = newest }) // the allow is dropped
		r.pass(5 * time.Second)
		r.want("203.0.113.7/32")
	})
}

func TestUnbanAllHoldsForAllOffencesUntilThen(t *testing.T) {
	running(t, 10, func(r *rig) {
		r.ban("203.0.113.7/32")
		r.pass(5 * time.Second)
		r.jail.set(func() { clear(r.jail.held) })
		if err := r.Emptied(context.Background(), time.Now()); err != nil {
			t.Fatal(err)
		}
		r.pass(5 * time.Minute)
		r.want()
		r.ban("203.0.113.8/32")
		r.pass(5 * time.Second)
		r.want("203.0.113.8/32")
	})
}

func TestFailuresSayHowToFixThem(t *testing.T) {
	for name, test := range map[string]struct {
		err   error
		shape fail2ban.Shape
		want  string
	}{
		"no jail":     {err: fail2ban.ErrNoJail, want: "fail2ban-client reload"},
		"not running": {err: fail2ban.ErrNotRunning, want: "systemctl start fail2ban"},
		"no client":   {err: fail2ban.ErrNoClient, want: "enforce.driver"},
		"denied":      {err: fail2ban.ErrDenied, want: "banmesh-fail2ban.socket"},
		"other":       {err: errors.New("broken pipe"), want: "broken pipe"},
		"filter":      {shape: fail2ban.Shape{Detects: true}, want: "has a filter"},
		"ban hook":    {shape: fail2ban.Shape{NotifiesBans: true}, want: "tells banmesh of its bans"},
	} {
		t.Run(name, func(t *testing.T) {
			running(t, 10, func(r *rig) {
				r.stop()
				good := r.jail.shape
				r.jail.set(func() { r.jail.err, r.jail.shape = test.err, test.shape })
				r.jail.hold(netip.MustParsePrefix("198.51.100.1/32"))
				r.start(10)
				r.ban("203.0.113.7/32")
				r.pass(10 * time.Minute)
				r.want("198.51.100.1/32") // nothing is touched
				r.wantState(enforce.Failing, 0, test.want)
				if s := r.Status(); s.Failures > 20 || s.LastError == "" {
					t.Errorf("%d tries within ten minutes, last error %q", s.Failures, s.LastError)
				}

				r.jail.set(func() { r.jail.err, r.jail.shape = nil, good })
				r.Started()
				r.pass(time.Second)
				r.want("203.0.113.7/32")
				r.wantState(enforce.On, 1, "")
			})
		})
	}
}

func TestRemoveEmptiesTheJailAndIsNoHumansWord(t *testing.T) {
	running(t, 10, func(r *rig) {
		r.ban("203.0.113.7/32")
		r.pass(5 * time.Second)
		r.stop()
		if err := r.Remove(context.Background()); err != nil {
			t.Fatal(err)
		}
		if calls := r.jail.did(); calls[len(calls)-1] != "empty []" {
			t.Errorf("calls %q", calls)
		}
		removed := time.Now()
		start := r.jail.held[netip.MustParsePrefix("203.0.113.7/32")]
		r.jail.set(func() { clear(r.jail.held) })
		r.pass(time.Minute)

		t.Log("the router joins again; what the hooks said meanwhile comes out of the spool")
		r.start(10)
		if err := errors.Join(r.Emptied(context.Background(), removed), r.Unbanned(context.Background(), netip.MustParsePrefix("203.0.113.7/32"), start)); err != nil {
			t.Fatal(err)
		}
		r.pass(5 * time.Second)
		r.want("203.0.113.7/32")
	})
}

func TestRemoveLeavesForeignJailsAlone(t *testing.T) {
	running(t, 10, func(r *rig) {
		r.jail.set(func() { r.jail.shape = fail2ban.Shape{Detects: true} })
		if err := r.Remove(context.Background()); err != nil || len(r.jail.did()) > 0 {
			t.Errorf("%v, calls %q", err, r.jail.did())
		}
		r.jail.set(func() { r.jail.err = fmt.Errorf("%w: nobody there", fail2ban.ErrNotRunning) })
		err := r.Remove(context.Background())
		if !errors.Is(err, fail2ban.ErrNotRunning) || !strings.Contains(err.Error(), "fail2ban-client reload --unban mesh") {
			t.Errorf("error %v, want what to do later", err)
		}
	})
}

func TestNewNeedsItsSeams(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("no error")
	}
}
