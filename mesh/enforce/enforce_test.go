package enforce

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go4.org/netipx"
	"pgregory.net/rapid"

	"banmesh/store"
)

// bench is an Enforcer between a fake set and a fake kernel, within a synctest bubble.
type bench struct {
	t       testing.TB
	set     *fakeSet
	kernel  *fakeKernel
	e       *Enforcer
	settled atomic.Bool
}

func newBench(t testing.TB) *bench {
	b := &bench{t: t, set: newFakeSet(time.Now), kernel: &fakeKernel{now: time.Now, gone: true}}
	b.settled.Store(true)
	b.e = New(Config{Set: b.set, Driver: b.kernel, Settled: b.settled.Load})
	return b
}

// run runs the Enforcer until the returned function is called.
func (b *bench) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- b.e.Run(ctx) }()
	synctest.Wait()
	return func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("Run: %v", err)
		}
	}
}

// after lets the change reach the kernel.
func (b *bench) after(c store.Change) {
	b.e.Changed(c)
	time.Sleep(2 * pace)
	synctest.Wait()
}

// wants checks until when an address is dropped: 0 is not at all.
func (b *bench) wants(address string, until store.Millis) {
	b.t.Helper()
	if got := b.kernel.until(netip.MustParseAddr(address)); got != until {
		b.t.Errorf("%s is dropped until %d, want %d", address, got, until)
	}
}

func in(d time.Duration) store.Millis { return store.At(time.Now().Add(d)) }

func TestABanIsEnforcedAndLifted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		until := in(time.Hour)
		b.set.ban("192.0.2.0/24", until)
		defer b.run()()
		b.wants("192.0.2.9", until)
		asked := b.set.asked()

		b.after(b.set.ban("192.0.2.9/32", until+5000))
		b.wants("192.0.2.9", until+5000)
		b.wants("192.0.2.8", until)
		b.after(b.set.lift("192.0.2.9/32"))
		b.wants("192.0.2.9", until)
		b.after(b.set.ban("2001:db8::/64", store.Never))
		b.wants("2001:db8::1", store.Never)
		b.after(b.set.lift("192.0.2.0/24"))
		b.wants("192.0.2.9", 0)
		if s := b.e.Status(); s.State != On || s.Elements != 1 || s.Batches != 5 || s.Dropped != (Drops{7, 700}) || s.Reconciled.IsZero() || s.Caveat != "the kernel is a fake" {
			t.Errorf("%+v", s)
		}
		if n := b.set.asked(); n != asked {
			t.Errorf("single bans made %d comparisons of the whole set", n-asked)
		}
	})
}

func TestNothingBeforeTheFirstExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.settled.Store(false)
		b.kernel.gone, b.kernel.held = false, []timed{{from: netip.MustParseAddr("198.51.100.1"), to: netip.MustParseAddr("198.51.100.1")}}
		b.set.ban("192.0.2.1/32", store.Never)
		defer b.run()()
		b.after(b.set.ban("192.0.2.2/32", store.Never))
		time.Sleep(29 * time.Second)
		if s := b.e.Status(); b.kernel.steps() != 0 || s.State != Waiting {
			t.Errorf("%d steps, %+v", b.kernel.steps(), s)
		}
		b.settled.Store(true)
		time.Sleep(settledPoll)
		synctest.Wait()
		b.wants("192.0.2.2", store.Never)
		b.wants("198.51.100.1", 0)
	})
}

// TestAStepOfTheClockMovesWhatIsHeld: the kernel counts down what was left of a ban by the former time.
func TestAStepOfTheClockMovesWhatIsHeld(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, time.Hour, -2 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			var shift atomic.Int64
			shift.Store(int64(off))
			now := func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
			b.set.now, b.e.cfg.Now = now, now
			short, long := in(2*time.Minute), in(4*time.Hour)
			b.set.ban("192.0.2.1/32", short)
			b.set.ban("192.0.2.2/32", long)
			defer b.run()()
			time.Sleep(3*time.Minute + 30*time.Second) // by the wrong time, too, nothing is left of the first ban where the clock is ahead
			shift.Store(0)
			time.Sleep(2 * look)
			synctest.Wait()
			b.wants("192.0.2.1", 0)
			b.wants("192.0.2.2", long)
		})
	}
}

// TestOneAllowCostsAsMuchAsOneAllow: with a hundred thousand others, a comparison of all takes long.
func TestOneAllowCostsAsMuchAsOneAllow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.set.ban("192.0.2.0/24", store.Never)
		defer b.run()()
		before := b.set.exempted
		for i := range 10 {
			b.after(b.set.allow(fmt.Sprintf("192.0.2.%d/32", i)))
			b.wants(fmt.Sprintf("192.0.2.%d", i), 0)
			b.wants(fmt.Sprintf("192.0.2.%d", i+1), store.Never)
		}
		if n := b.set.exempted - before; n > 1 {
			t.Errorf("all exemptions were compared %d times for ten allows within a second", n)
		}
		b.set.exemptions = new(netipx.IPSet)
		b.after(store.Change{Events: []store.Event{{Kind: store.EventNeverBan}}})
		b.wants("192.0.2.9", store.Never)
	})
}

func TestAllowsAndNeverBansComeLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.set.ban("192.0.2.0/24", store.Never)
		defer b.run()()
		b.after(b.set.allow("192.0.2.64/26"))
		b.wants("192.0.2.63", store.Never)
		b.wants("192.0.2.64", 0)
		b.after(b.set.ban("192.0.2.65/32", store.Never))
		b.wants("192.0.2.65", 0)
		b.set.allow("192.0.2.128/25") // a lease: nobody tells of its change
		time.Sleep(look + pace)
		synctest.Wait()
		b.wants("192.0.2.64", store.Never)
		b.wants("192.0.2.255", 0)
	})
}

func TestFreezeStopsAdditionsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		hour := in(time.Hour)
		b.set.ban("192.0.2.0/24", hour)
		b.set.ban("198.51.100.1/32", hour)
		defer b.run()()
		b.after(b.set.freeze(true))
		b.after(b.set.ban("203.0.113.1/32", hour))
		b.after(b.set.ban("192.0.2.7/32", hour+60000))
		b.wants("203.0.113.1", 0)
		b.wants("192.0.2.7", hour)
		b.after(b.set.lift("198.51.100.1/32"))
		b.wants("198.51.100.1", 0)
		b.after(b.set.allow("192.0.2.128/25"))
		b.wants("192.0.2.128", 0)
		b.wants("192.0.2.127", hour)
		b.after(b.set.ban("192.0.2.0/24", hour-600000))
		b.wants("192.0.2.127", hour-600000)
		if s := b.e.Status(); s.State != Frozen || !strings.Contains(s.Detail, "router9") {
			t.Errorf("%+v", s)
		}
		time.Sleep(2 * reconcile)
		synctest.Wait()
		b.wants("203.0.113.1", 0)
		b.after(b.set.freeze(false))
		b.wants("203.0.113.1", hour)
		b.wants("192.0.2.7", hour+60000)
		if s := b.e.Status(); s.State != On || s.Detail != "" {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhatIsRightStaysOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		hour := in(time.Hour)
		for i := range 100 {
			b.set.ban(fmt.Sprintf("192.0.2.%d/32", 2*i), hour)
		}
		b.run()()
		time.Sleep(time.Minute)
		steps := b.kernel.steps()
		b.e = New(Config{Set: b.set, Driver: b.kernel, Settled: func() bool { return true }})
		defer b.run()()
		if s := b.e.Status(); s.Batches != 0 || s.Elements != 100 {
			t.Errorf("%d batches for what was right, %d elements", s.Batches, s.Elements)
		}
		if n := b.kernel.steps() - steps; n > 1 { // the one that is empty: it makes what is missing of the table
			t.Errorf("%d steps for what was right", n)
		}
	})
}

// TestWhatOthersDoIsUndoneAtOnce: where the router tells what they do.
func TestWhatOthersDoIsUndoneAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.set.ban("192.0.2.1/32", store.Never)
		b.set.ban("192.0.2.9/32", store.Never)
		defer b.run()()
		reads := b.kernel.read
		steps := b.kernel.steps()
		b.kernel.meddle(func(held []timed) []timed {
			return []timed{held[1], {from: netip.MustParseAddr("203.0.113.1"), to: netip.MustParseAddr("203.0.113.9")}}
		})
		time.Sleep(2 * pace)
		synctest.Wait()
		b.wants("192.0.2.1", store.Never)
		b.wants("192.0.2.9", store.Never)
		b.wants("203.0.113.5", 0)
		if b.kernel.steps() == steps || b.kernel.read != reads {
			t.Errorf("%d steps, %d readings of all", b.kernel.steps()-steps, b.kernel.read-reads)
		}

		b.kernel.vanish()
		time.Sleep(2 * pace)
		synctest.Wait()
		b.wants("192.0.2.1", store.Never)
		b.wants("192.0.2.9", store.Never)
		if s := b.e.Status(); s.State != On || s.Failures != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestWhatNobodyTellsIsFound: by the minute's sample, and by the next change of what is not there.
func TestWhatNobodyTellsIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.kernel.deaf = true
		b.set.ban("192.0.2.1/32", store.Never)
		b.set.ban("192.0.2.9/32", store.Never)
		defer b.run()()
		b.kernel.meddle(func(held []timed) []timed {
			return []timed{held[1], {from: netip.MustParseAddr("203.0.113.1"), to: netip.MustParseAddr("203.0.113.9")}}
		})
		time.Sleep(reconcile + 2*look)
		synctest.Wait()
		b.wants("192.0.2.1", store.Never)
		b.wants("192.0.2.9", store.Never)
		b.wants("203.0.113.5", 0)

		// What is deleted meanwhile makes the next change fail; it is done all the same, at once.
		b.kernel.meddle(func([]timed) []timed { return nil })
		b.after(b.set.lift("192.0.2.1/32"))
		b.wants("192.0.2.1", 0)
		b.after(b.set.ban("192.0.2.9/32", in(time.Hour)))
		b.wants("192.0.2.9", in(time.Hour)-store.Millis((2*pace).Milliseconds()))
		if s := b.e.Status(); s.State != On || s.Failures != 0 {
			t.Errorf("%+v", s)
		}

		b.kernel.vanish()
		b.after(b.set.ban("192.0.2.7/32", store.Never))
		time.Sleep(look)
		synctest.Wait()
		b.wants("192.0.2.7", store.Never)
		b.wants("192.0.2.9", in(time.Hour)-store.Millis((look+4*pace).Milliseconds()))
	})
}

// TestAnotherEndIsNoReasonToReadAll: as after a million were loaded in one step, which takes seconds.
func TestAnotherEndIsNoReasonToReadAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.kernel.deaf = true
		hour := in(time.Hour)
		b.set.ban("192.0.2.1/32", hour)
		defer b.run()()
		reads := b.kernel.read
		b.kernel.meddle(func(held []timed) []timed {
			held[0].until = held[0].until.Add(5 * time.Second)
			return held
		})
		time.Sleep(reconcile + 2*look)
		synctest.Wait()
		if b.kernel.read != reads {
			t.Errorf("%d readings of all", b.kernel.read-reads)
		}
		b.wants("192.0.2.1", hour)
	})
}

// TestALongReadingHoldsNothingUp: what is banned and lifted while all is read is done at once, and the reading, which has
// not seen it, undoes none of it.
func TestALongReadingHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for i := range 9 {
			b.set.ban(fmt.Sprintf("192.0.2.%d/32", i), store.Never)
		}
		defer b.run()()
		b.kernel.mu.Lock()
		b.kernel.slow = 20 * time.Second
		b.kernel.held = b.kernel.held[1:]
		stray := netip.MustParseAddr("203.0.113.1")
		b.kernel.held = append(b.kernel.held, timed{from: stray, to: stray})
		b.kernel.inform(News{Lost: true})
		b.kernel.mu.Unlock()
		time.Sleep(look + pace)
		b.after(b.set.ban("198.51.100.1/32", store.Never))
		b.wants("198.51.100.1", store.Never)
		b.after(b.set.lift("192.0.2.5/32"))
		b.wants("192.0.2.5", 0)
		if b.kernel.until(stray) == 0 {
			t.Fatal("the reading is over: the test shows nothing")
		}
		time.Sleep(b.kernel.slow + look)
		synctest.Wait()
		for i := range 9 {
			want := store.Never
			if i == 5 {
				want = 0
			}
			b.wants(fmt.Sprintf("192.0.2.%d", i), want)
		}
		b.wants("198.51.100.1", store.Never)
		b.wants("203.0.113.1", 0)
		if s := b.e.Status(); s.State != On || s.Elements != 9 {
			t.Errorf("%+v", s)
		}
	})
}

// TestAChangeComesBetweenTheBatches: of what is loaded or taken away in bulk.
func TestAChangeComesBetweenTheBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.e.router.size = 10
		for i := range 200 {
			b.set.ban(fmt.Sprintf("10.0.%d.0/25", i), in(time.Hour))
		}
		urgent, lifted := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.0.199.1")
		b.kernel.watch = func(held []timed) {
			switch len(held) {
			case 20:
				b.e.Changed(b.set.ban("192.0.2.1/32", store.Never))
				b.e.Changed(b.set.lift("10.0.199.0/25"))
			case 50:
				if !slices.ContainsFunc(held, func(t timed) bool { return t.from == urgent }) {
					t.Error("a ban waits for the loading of others")
				}
			}
		}
		defer b.run()()
		time.Sleep(look)
		synctest.Wait()
		b.wants("192.0.2.1", store.Never)
		if b.kernel.until(lifted) != 0 || b.e.Status().Elements != 200 {
			t.Errorf("%+v", b.e.Status())
		}
	})
}

// TestAFlushWhileFrozenComesBack: to put back is not to add.
func TestAFlushWhileFrozenComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.set.ban("192.0.2.1/32", store.Never)
		b.set.ban("192.0.2.9/32", store.Never)
		defer b.run()()
		b.after(b.set.freeze(true))
		b.after(b.set.ban("203.0.113.1/32", store.Never))
		b.after(b.set.lift("192.0.2.9/32"))
		b.kernel.vanish()
		time.Sleep(look)
		synctest.Wait()
		b.wants("192.0.2.1", store.Never)
		b.wants("192.0.2.9", 0)
		b.wants("203.0.113.1", 0)
	})
}

func TestARefusalIsAStateAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.set.ban("192.0.2.1/32", store.Never)
		b.kernel.refuse(fmt.Errorf("no CAP_NET_ADMIN: %w", os.ErrPermission))
		defer b.run()()
		if s := b.e.Status(); s.State != Failing || !strings.Contains(s.Detail, "CAP_NET_ADMIN") || s.Failures != 1 || s.Behind != Unknown {
			t.Errorf("%+v", s)
		}
		for range 100 {
			b.after(b.set.ban("192.0.2.2/32", store.Never))
		}
		if s := b.e.Status(); s.Failures != 1 {
			t.Errorf("tried %d times within a second", s.Failures)
		}
		b.kernel.refuse(nil)
		time.Sleep(retryLast + look)
		synctest.Wait()
		b.wants("192.0.2.1", store.Never)
		b.wants("192.0.2.2", store.Never)
		if s := b.e.Status(); s.State != On || s.LastError == "" || s.Behind != 0 || s.BehindFor != 0 {
			t.Errorf("%+v", s)
		}

		// What was in force is known now, and so is what is missing.
		b.kernel.refuse(fmt.Errorf("no memory: %w", syscall.ENOMEM))
		b.after(b.set.ban("192.0.2.3/32", store.Never))
		b.after(b.set.ban("192.0.2.4/32", store.Never))
		time.Sleep(5 * time.Second)
		if s := b.e.Status(); s.State != Failing || s.Behind != 2 || s.BehindFor < 5*time.Second || s.BehindFor > 6*time.Second || s.Elements != 2 {
			t.Errorf("%+v", s)
		}
		b.wants("192.0.2.1", store.Never)
	})
}

func TestWhatCannotBeReadIsReplacedInOneStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.kernel.alien, b.kernel.gone = true, false
		b.e.router.size = 10
		for i := range 100 {
			b.set.ban(fmt.Sprintf("10.0.%d.0/25", i), store.Never)
		}
		defer b.run()()
		if b.kernel.alien || b.kernel.steps() != 1 {
			t.Errorf("%d steps", b.kernel.steps())
		}
		b.wants("10.0.1.1", store.Never)
		b.after(b.set.allow("10.0.0.0/16")) // known now: in parts
		if b.kernel.steps() != 11 || len(b.kernel.held) != 0 {
			t.Errorf("%d steps, %d held", b.kernel.steps(), len(b.kernel.held))
		}
	})
}

func TestTheQueueIsBounded(t *testing.T) {
	p := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
	}
	event := func(kind store.EventKind, i int) store.Event { return store.Event{Kind: kind, Prefix: p(i)} }
	var many []store.Event
	for i := range most + 1 {
		many = append(many, event(store.EventBan, i))
	}
	for name, c := range map[string]struct {
		change store.Change
		some   int
		all    bool
		wake   bool
	}{
		"nothing":        {},
		"own head":       {change: store.Change{OwnHead: true}},
		"bans":           {change: store.Change{Events: []store.Event{event(store.EventBan, 1), event(store.EventExtend, 1), event(store.EventLift, 2)}}, some: 2, wake: true},
		"an end":         {change: store.Change{Events: []store.Event{event(store.EventExpire, 1), event(store.EventPlaced, 1)}}},
		"an allow":       {change: store.Change{Events: []store.Event{event(store.EventAllow, 1)}}, some: 1, wake: true},
		"a freeze":       {change: store.Change{Events: []store.Event{{Kind: store.EventFreeze}}}, wake: true},
		"a block":        {change: store.Change{Events: []store.Event{{Kind: store.EventBlock}}}, all: true, wake: true},
		"an unblock":     {change: store.Change{Events: []store.Event{{Kind: store.EventUnblock}}}, all: true, wake: true},
		"more than told": {change: store.Change{More: 1}, all: true, wake: true},
		"many":           {change: store.Change{Events: many[:most]}, some: most, wake: true},
		"too many":       {change: store.Change{Events: many}, all: true, wake: true},
	} {
		q := newQueue(time.Now)
		q.changed(c.change)
		some, all, _, since := q.take()
		if len(some) != c.some || all != c.all || len(q.wake) == 1 != c.wake || since.IsZero() != (c.some == 0 && !c.all) {
			t.Errorf("%s: %d prefixes, all %v, woken %d; want %d, %v, %v", name, len(some), all, len(q.wake), c.some, c.all, c.wake)
		}
		if some, all, _, since := q.take(); len(some) > 0 || all || !since.IsZero() {
			t.Errorf("%s: not empty after it was taken", name)
		}
	}
}

func TestLongBansAreRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		long := in(10 * 365 * 24 * time.Hour)
		b.set.ban("192.0.2.1/32", long)
		b.kernel.now = time.Now
		defer b.run()()
		b.wants("192.0.2.1", in(time.Duration(farthest)*time.Millisecond))
		batches := b.e.Status().Batches
		time.Sleep(100 * time.Minute)
		synctest.Wait()
		if n := b.e.Status().Batches; n != batches {
			t.Errorf("renewed %d times in 100 minutes", n-batches)
		}
	})
}

func TestScrapsAreSweptUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.set.ban("10.0.0.0/16", store.Never)
		defer b.run()()
		for i := range 1500 {
			b.e.Changed(b.set.ban(fmt.Sprintf("10.0.%d.%d/32", i/100, 2*(i%100)), in(time.Hour)))
			b.after(b.set.allow(fmt.Sprintf("10.0.%d.%d/32", i/100, 2*(i%100))))
		}
		b.after(b.set.allow())
		if n := b.e.Status().Elements; n < 1500 {
			t.Fatalf("%d elements: the test makes no scraps", n)
		}
		time.Sleep(reconcile + look)
		synctest.Wait()
		if n := b.e.Status().Elements; n != 1 {
			t.Errorf("%d elements, want 1", n)
		}
		b.wants("10.0.0.0", store.Never)
		b.wants("10.0.255.255", store.Never)
	})
}

func TestRemoveTakesEverythingOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.set.ban("192.0.2.1/32", store.Never)
		b.run()()
		b.wants("192.0.2.1", store.Never)
		if err := b.e.Remove(context.Background()); err != nil || !b.kernel.removed {
			t.Errorf("removed %v, %v", b.kernel.removed, err)
		}
	})
}

func TestAStormIsFewBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.run()()
		for i := range 1000 {
			b.e.Changed(b.set.ban(fmt.Sprintf("10.0.%d.%d/32", i/256, i%256), in(time.Hour+time.Duration(i)*time.Minute)))
			time.Sleep(pace / 20)
		}
		time.Sleep(pace)
		synctest.Wait()
		if s := b.e.Status(); s.Elements != 1000 || s.Batches > 52 {
			t.Errorf("%d elements by %d batches", s.Elements, s.Batches)
		}
	})
}

// TestAnyOrderEndsInTheSame: whatever happens, by events or without, the kernel drops what it should, until it should,
// and no step uncovers what stays banned.
func TestAnyOrderEndsInTheSame(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		synctest.Test(t, func(*testing.T) {
			b := newBench(t)
			var all []netip.Addr
			for i := range 64 {
				all = append(all, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
			}
			b.kernel.watch = func(next []timed) {
				for _, a := range all {
					covered := func(held []timed) bool {
						for _, t := range held {
							if !a.Less(t.from) && !t.to.Less(a) {
								return true
							}
						}
						return false
					}
					if covered(b.kernel.live()) && !covered(next) && b.set.until(a) != 0 {
						r.Errorf("%v is let in although it stays banned", a)
					}
				}
			}
			stop := b.run()
			for range rapid.IntRange(1, 12).Draw(r, "changes") {
				bits := rapid.IntRange(26, 32).Draw(r, "bits")
				at := rapid.IntRange(0, 63).Draw(r, "address")
				p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(at)}), bits).Masked().String()
				switch rapid.IntRange(0, 9).Draw(r, "what") {
				case 0, 1, 2, 3:
					synctest.Wait() // what the worker has decided to let in, before this ban, it may
					b.e.Changed(b.set.ban(p, in(time.Duration(rapid.IntRange(10, 300).Draw(r, "seconds"))*time.Second)))
				case 4, 5:
					b.e.Changed(b.set.lift(p))
				case 6:
					b.e.Changed(b.set.allow(p))
				case 7:
					b.kernel.meddle(func(held []timed) []timed { return held[:len(held)/2] })
				case 8:
					time.Sleep(time.Duration(rapid.IntRange(1, 100).Draw(r, "pass")) * time.Second)
				case 9:
					stop()
					b.e = New(Config{Set: b.set, Driver: b.kernel, Settled: func() bool { return true }})
					stop = b.run()
				}
			}
			time.Sleep(reconcile + look + pace)
			synctest.Wait()
			for _, a := range all {
				got, want := b.kernel.until(a), b.set.until(a)
				if (got == 0) != (want == 0) || got-want > slack || want-got > slack {
					r.Errorf("%v is dropped until %d, want %d", a, got, want)
				}
			}
			if s := b.e.Status(); s.State != On {
				r.Errorf("%+v", s)
			}
			stop()
		})
	})
}

// TestBatchesKeepTogetherWhatOverlaps: each batch leaves a list that a kernel takes, and covers what the one before and
// the last one cover.
func TestBatchesKeepTogetherWhatOverlaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := drawBase(t)
		var held, want, del, add lists
		for f := range families {
			held[f], want[f] = drawList(t, base, "held"), drawList(t, base, "want")
			del[f], add[f] = diff(held[f], want[f], exact)
		}
		now := held
		size := rapid.IntRange(1, 20).Draw(t, "size")
		for del.len()+add.len() > 0 {
			b := cut(&del, &add, size)
			for f := range families {
				was, last := modelOf(t, base, now[f], true), modelOf(t, base, want[f], true)
				now[f] = listOf(now[f]).edit(b.del[f], b.add[f], 0).flat()
				for i, u := range modelOf(t, base, now[f], true) {
					if u == 0 && was[i] != 0 && last[i] != 0 {
						t.Fatalf("address %d is uncovered meanwhile", i)
					}
				}
			}
		}
		for f := range families {
			if modelOf(t, base, now[f], true) != modelOf(t, base, want[f], true) {
				t.Fatalf("the batches make %v, want %v", now[f], want[f])
			}
		}
	})
}
