package leader

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// world runs a scenario in virtual time and stops what it started.
func world(t *testing.T, play func(f *fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.close()
		play(f)
	})
}

func wantLeader(t *testing.T, f *fleet, want string) {
	t.Helper()
	got := fmt.Sprint(f.leaders())
	if got != fmt.Sprint([]string{want}) {
		t.Fatalf("leaders = %s, want [%s]\n%s", got, want, f.report())
	}
	if bad := f.settled(); bad != "" {
		t.Fatalf("%s\n%s", bad, f.report())
	}
}

func TestBestRankLeadsAFreshMesh(t *testing.T) {
	world(t, func(f *fleet) {
		f.add("a", 0)
		f.add("b", 5)
		f.add("c", 5)
		f.wait(5 * time.Second)
		wantLeader(t, f, "b")
	})
}

func TestAMemberListensBeforeItClaims(t *testing.T) {
	world(t, func(f *fleet) {
		f.add("a", 0)
		f.wait(2900 * time.Millisecond)
		if l := f.leaders(); len(l) != 0 {
			t.Fatalf("leaders after 2.9 s = %v, want none", l)
		}
		f.wait(200 * time.Millisecond)
		wantLeader(t, f, "a")
	})
}

func TestASingleMemberElectsItselfOnceAble(t *testing.T) {
	world(t, func(f *fleet) {
		a := f.add("a", 0)
		f.set(a, false)
		f.wait(time.Minute)
		if s := a.Status(); s.Self || s.Eligible || s.Why != "conductor unreachable" {
			t.Fatalf("status = %+v, want not eligible: conductor unreachable", s)
		}
		f.set(a, true)
		f.wait(10 * time.Millisecond)
		wantLeader(t, f, "a")
	})
}

func TestABetterNewcomerDoesNotPreempt(t *testing.T) {
	world(t, func(f *fleet) {
		f.add("b", 0)
		f.add("c", 0)
		f.wait(5 * time.Second)
		f.add("a", 100)
		f.wait(time.Hour)
		wantLeader(t, f, "b")
		if got := f.members["a"].Status().Term; got != 1 {
			t.Errorf("term = %d, want 1", got)
		}
	})
}

func TestACrashedLeaderIsReplacedWithinFiveSeconds(t *testing.T) {
	world(t, func(f *fleet) {
		a := f.add("a", 0)
		for _, n := range []string{"b", "c", "d"} {
			f.add(n, 0)
		}
		f.wait(10 * time.Second)
		wantLeader(t, f, "a")
		f.crash(a)
		at := time.Now()
		for len(f.leaders()) == 0 && time.Since(at) < time.Minute {
			f.wait(10 * time.Millisecond)
		}
		if took := time.Since(at); took > 3500*time.Millisecond {
			t.Errorf("takeover after %s, want at most 3.5 s", took)
		}
		f.wait(time.Second)
		wantLeader(t, f, "b")
	})
}

func TestTakeoverSkipsMembersThatAreNotAble(t *testing.T) {
	world(t, func(f *fleet) {
		a := f.add("a", 0)
		for i := range 8 {
			f.set(f.add(fmt.Sprintf("b%d", i), 0), false)
		}
		f.add("z", 0)
		f.wait(10 * time.Second)
		f.crash(a)
		f.wait(6 * time.Second)
		wantLeader(t, f, "z")
	})
}

func TestACleanLeaveHandsOverWithinASecond(t *testing.T) {
	world(t, func(f *fleet) {
		a := f.add("a", 0)
		f.set(f.add("b", 0), false)
		f.set(f.add("c", 0), false)
		f.add("d", 0)
		f.wait(5 * time.Second)
		wantLeader(t, f, "a")
		f.leave(a)
		f.wait(900 * time.Millisecond)
		wantLeader(t, f, "d")
	})
}

func TestALeaveIsEnoughWhenTheLastWordIsLost(t *testing.T) {
	world(t, func(f *fleet) {
		a := f.add("a", 0)
		b := f.add("b", 0)
		f.wait(5 * time.Second)
		f.unlink("a", "b")
		f.leave(a)
		f.wait(100 * time.Millisecond)
		wantLeader(t, f, b.name)
	})
}

func TestALeaderThatCannotHandsOverAtOnce(t *testing.T) {
	world(t, func(f *fleet) {
		a := f.add("a", 0)
		f.add("b", 0)
		f.wait(5 * time.Second)
		f.set(a, false)
		f.wait(100 * time.Millisecond)
		wantLeader(t, f, "b")
		f.set(a, true)
		f.wait(time.Minute)
		wantLeader(t, f, "b") // sticky
	})
}

func TestNobodyLeadsWhileNobodyIsAble(t *testing.T) {
	world(t, func(f *fleet) {
		a, b := f.add("a", 0), f.add("b", 0)
		f.wait(5 * time.Second)
		f.set(b, false)
		f.set(a, false)
		f.wait(time.Minute)
		if l := f.leaders(); len(l) != 0 || a.Status().Leader != "" || b.Status().Leader != "" {
			t.Fatalf("leaders = %v, a follows %q, b follows %q, want none", l, a.Status().Leader, b.Status().Leader)
		}
		f.set(b, true)
		f.wait(time.Second)
		wantLeader(t, f, "b")
	})
}

func TestASlowCommitIsNoSilence(t *testing.T) {
	world(t, func(f *fleet) {
		a, b := f.add("a", 0), f.add("b", 0)
		f.wait(5 * time.Second)
		until := time.Now().Add(20 * time.Minute).Truncate(time.Millisecond)
		a.SetWork(Committing, "", Session{"n", 17}, until)
		f.wait(10 * time.Minute)
		a.SetWork(Waiting, "waiting for session 3", Session{}, time.Time{})
		f.wait(10 * time.Minute)
		wantLeader(t, f, "a")
		if s := b.Status(); s.Work != Waiting || s.detail != "waiting for session 3" || s.Term != 1 {
			t.Errorf("b sees %+v, want a waiting for session 3 in term 1", s)
		}
	})
}

func TestAfterAPartitionTheHigherTermWins(t *testing.T) {
	world(t, func(f *fleet) {
		for _, n := range []string{"a", "b", "c", "d"} {
			f.add(n, 0)
		}
		f.wait(5 * time.Second)
		f.split("c", "d")
		f.wait(10 * time.Second)
		if got := fmt.Sprint(f.leaders()); got != "[a c]" {
			t.Fatalf("leaders of the two sides = %s, want [a c]", got)
		}
		f.split()
		f.wait(1500 * time.Millisecond)
		wantLeader(t, f, "c")
	})
}

func TestEqualTermsAreSettledByRank(t *testing.T) {
	world(t, func(f *fleet) {
		f.add("a", 0)
		f.add("b", 0)
		f.split("b")
		f.wait(10 * time.Second)
		if got := fmt.Sprint(f.leaders()); got != "[a b]" {
			t.Fatalf("leaders of the two sides = %s, want [a b]", got)
		}
		f.split()
		f.wait(1500 * time.Millisecond)
		wantLeader(t, f, "a")
	})
}

func TestAMemberCutOffFromTheLeaderAloneLeavesItInPlace(t *testing.T) {
	world(t, func(f *fleet) {
		f.add("a", 0)
		b := f.add("b", 0)
		f.add("c", 0)
		f.wait(5 * time.Second)
		f.unlink("a", "b")
		f.unlink("b", "a")
		f.wait(10 * time.Minute)
		wantLeader(t, f, "a")
		if n := f.changesOf(b); n > 4 {
			t.Errorf("b saw %d changes, want no flapping\n%s", n, f.report())
		}
	})
}

func TestTwoLeadersWithoutALinkAreBroughtTogetherByAThird(t *testing.T) {
	world(t, func(f *fleet) {
		f.add("a", 0)
		f.add("b", 0)
		f.add("c", 0)
		f.split("b")
		f.wait(10 * time.Second) // a leads a and c, b leads b
		f.unlink("a", "b")
		f.unlink("b", "a")
		f.split()
		f.wait(10 * time.Second)
		if l := f.leaders(); len(l) != 1 {
			t.Fatalf("leaders = %v, want one\n%s", l, f.report())
		}
		before := f.events()
		f.wait(10 * time.Minute)
		if n := f.events() - before; n != 0 {
			t.Errorf("%d changes afterwards, want none\n%s", n, f.report())
		}
	})
}

func TestLossDoesNotMakeLeadershipFlap(t *testing.T) {
	world(t, func(f *fleet) {
		f.weather(0.1, 150*time.Millisecond)
		for _, n := range []string{"a", "b", "c", "d", "e"} {
			f.add(n, 0)
		}
		f.wait(5 * time.Second)
		f.wait(time.Hour)
		wantLeader(t, f, "a")
		if got := f.members["a"].Status().Term; got != 1 {
			t.Errorf("term after an hour of loss = %d, want 1\n%s", got, f.report())
		}
	})
}

func TestObserversHearOfTheLeaderAndNeverClaim(t *testing.T) {
	world(t, func(f *fleet) {
		a := f.add("a", 0)
		o := &member{name: "o", observer: true, able: true}
		f.admit(o)
		f.wait(5 * time.Second)
		wantLeader(t, f, "a")
		sent := f.sentBy("a")
		f.wait(100 * time.Second)
		if n := f.sentBy("a") - sent; n > 25 {
			t.Errorf("%d words to one observer in 100 s, want about one each 5 s", n)
		}
		f.crash(a)
		f.wait(time.Minute)
		if s := o.Status(); s.Self || s.Leader != "" || s.Eligible {
			t.Errorf("observer's status = %+v, want nobody leading", s)
		}
	})
}

func TestSessionOfAFormerLeaderIsKnownOnceItIsSilent(t *testing.T) {
	world(t, func(f *fleet) {
		a, b := f.add("a", 0), f.add("b", 0)
		f.wait(5 * time.Second)
		a.SetWork(Committing, "", Session{"n", 41}, time.Time{})
		f.wait(100 * time.Millisecond)
		f.crash(a)
		at := time.Now()
		f.wait(14 * time.Second)
		wantLeader(t, f, "b")
		if got := b.Silent(15 * time.Second); got != nil {
			t.Errorf("Silent after %s = %v, want none", time.Since(at), got)
		}
		f.wait(2 * time.Second)
		if got := fmt.Sprint(b.Silent(15 * time.Second)); got != "[{n 41}]" {
			t.Errorf("Silent after %s = %v, want [41]", time.Since(at), got)
		}
		b.SetWork(Committing, "", Session{"n", 52}, time.Time{})
		if got := b.Silent(15 * time.Second); got != nil {
			t.Errorf("Silent after b got the lock = %v, want none: 41 cannot hold it", got)
		}
	})
}

func TestSessionsAreForgottenInTime(t *testing.T) {
	world(t, func(f *fleet) {
		a, b := f.add("a", 0), f.add("b", 0)
		f.wait(5 * time.Second)
		a.SetWork(Committing, "", Session{"n", 41}, time.Time{})
		f.wait(100 * time.Millisecond)
		a.SetWork(Idle, "", Session{}, time.Time{})
		f.wait(time.Second)
		a.SetWork(Committing, "", Session{"n", 42}, time.Time{})
		f.wait(100 * time.Millisecond)
		f.crash(a)
		f.wait(time.Minute)
		if got := fmt.Sprint(b.Silent(15 * time.Second)); got != "[{n 42}]" {
			t.Errorf("Silent = %v, want [42]: 41 was closed", got)
		}
		f.wait(2 * time.Hour)
		if got := b.Silent(15 * time.Second); got != nil {
			t.Errorf("Silent after two hours = %v, want none: ids are numbered anew when a conductor restarts", got)
		}
	})
}

func TestALeaderThatStepsDownIsNotSilentWhileItFinishes(t *testing.T) {
	world(t, func(f *fleet) {
		a, b := f.add("a", 0), f.add("b", 0)
		f.wait(5 * time.Second)
		f.split("b")
		f.wait(5 * time.Second)
		a.SetWork(Committing, "", Session{"n", 41}, time.Time{})
		f.split()
		f.wait(time.Minute)
		wantLeader(t, f, "b")
		if got := b.Silent(15 * time.Second); got != nil {
			t.Errorf("Silent = %v, want none: a still works on its commit", got)
		}
		a.SetWork(Idle, "", Session{}, time.Time{})
		f.wait(time.Minute)
		if got := b.Silent(15 * time.Second); got != nil {
			t.Errorf("Silent = %v, want none: a has closed its session", got)
		}
		sent := f.sentBy("a")
		f.wait(time.Minute)
		if n := f.sentBy("a") - sent; n != 0 {
			t.Errorf("a follower that has finished sent %d words, want none", n)
		}
	})
}

func TestResignWaitsForTheOpenEdit(t *testing.T) {
	world(t, func(f *fleet) {
		a := f.add("a", 0)
		f.add("b", 0)
		f.wait(5 * time.Second)
		a.SetWork(Committing, "", Session{"n", 41}, time.Time{})
		at := time.Now()
		time.AfterFunc(2*time.Second, func() { a.SetWork(Idle, "", Session{}, time.Time{}) })
		a.Resign(context.Background())
		if took := time.Since(at); took != 2*time.Second {
			t.Errorf("Resign returned after %s, want when the edit ended after 2 s", took)
		}
		wantLeader(t, f, "b") // which did not wait
		a.SetWork(Idle, "", Session{}, time.Time{})
		f.crash(f.members["b"])
		f.wait(time.Minute)
		if l := f.leaders(); len(l) != 0 {
			t.Errorf("leaders = %v, want none: who resigned does not come back", l)
		}
	})
}

func TestOnChangeTellsEachLossOfLeadership(t *testing.T) {
	world(t, func(f *fleet) {
		a := f.add("a", 0)
		f.wait(5 * time.Second)
		if f.ledBy(a) != 1 {
			t.Fatalf("a was told %d times that it leads, want once", f.ledBy(a))
		}
		h, err := Heartbeat{Term: 9, Name: "z"}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		changes := f.changesOf(a) // Receive wakes Run, which tells the change when it likes
		a.Receive("z", h)
		if a.Status().Self {
			t.Error("a still leads after a higher term was received")
		}
		f.wait(100 * time.Millisecond)
		if f.changesOf(a) != changes+1 {
			t.Errorf("%d changes told, want one", f.changesOf(a)-changes)
		}
		f.wait(10 * time.Second)
		if s := a.Status(); !s.Self || s.Term != 10 {
			t.Errorf("status = %+v, want a leading in term 10", s)
		}
	})
}

func TestGarbageChangesNothing(t *testing.T) {
	world(t, func(f *fleet) {
		a := f.add("a", 0)
		f.wait(5 * time.Second)
		a.Receive("x", nil)
		a.Receive("x", []byte{1, 2, 3})
		f.wait(time.Second)
		wantLeader(t, f, "a")
	})
}

// op is one thing that happens to a fleet.
type op struct {
	After  int // ms
	What   int
	Member int
	Mask   int // who is on the other side
}

// TestAnyHistoryEndsWithOneLeaderASide plays random crashes, restarts, leaves,
// partitions and failing conductors on a network that loses, delays and
// reorders, and then leaves the fleet in peace.
func TestAnyHistoryEndsWithOneLeaderASide(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(1, 6).Draw(rt, "members")
		prio := rapid.SliceOfN(rapid.IntRange(0, 2), size, size).Draw(rt, "priorities")
		loss := rapid.SampledFrom([]float64{0, 0.05, 0.3}).Draw(rt, "loss")
		latency := rapid.SampledFrom([]int{1, 50, 400}).Draw(rt, "latency ms")
		ops := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) op {
			return op{rapid.IntRange(0, 8000).Draw(t, "after"), rapid.IntRange(0, 6).Draw(t, "what"),
				rapid.IntRange(0, size-1).Draw(t, "member"), rapid.IntRange(0, 1<<size-1).Draw(t, "mask")}
		}), 0, 25).Draw(rt, "history")
		var bad string
		world(t, func(f *fleet) { bad = play(f, prio, loss, time.Duration(latency)*time.Millisecond, ops) })
		if bad != "" {
			rt.Fatal(bad)
		}
	})
}

func play(f *fleet, prio []int, loss float64, latency time.Duration, ops []op) string {
	f.weather(loss, latency)
	var ms []*member
	for i, p := range prio {
		ms = append(ms, f.add(string(rune('a'+i)), p))
	}
	for _, o := range ops {
		f.wait(time.Duration(o.After) * time.Millisecond)
		m := ms[o.Member]
		switch o.What {
		case 0:
			if m.alive {
				f.crash(m)
			}
		case 1:
			if m.alive {
				f.leave(m)
			}
		case 2:
			if !m.alive {
				f.boot(m)
			}
		case 3:
			f.set(m, !m.able)
		case 4:
			var other []string
			for i, x := range ms {
				if o.Mask>>i&1 == 1 {
					other = append(other, x.name)
				}
			}
			f.split(other...)
		case 5:
			f.split()
		case 6:
			m.SetWork(Committing, "", Session{"n", uint64(o.Mask)}, time.Time{})
		}
	}
	f.weather(min(loss, 0.05), latency)
	f.wait(20 * time.Second)
	if bad := f.settled(); bad != "" {
		return bad + "\n" + f.report()
	}
	before, leaders := f.events(), fmt.Sprint(f.leaders())
	f.wait(2 * time.Minute)
	if bad := f.settled(); bad != "" {
		return "later: " + bad + "\n" + f.report()
	}
	if after := fmt.Sprint(f.leaders()); after != leaders {
		return fmt.Sprintf("leaders went from %s to %s in peace (%d changes)\n%s", leaders, after, f.events()-before, f.report())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range ms {
		for i := 1; i < len(m.seen); i++ {
			// Only a place that is vacant may be taken by a lesser claim.
			if was, is := m.seen[i-1], m.seen[i]; was.Leader != "" && is.Leader != "" && is.Term < was.Term {
				return fmt.Sprintf("%s left %s in term %d for %s in term %d", m.name, was.Leader, was.Term, is.Leader, is.Term)
			}
		}
	}
	return ""
}

// claimed is a heartbeat that anyone with the key can send.
func claimed(t *testing.T, h Heartbeat) []byte {
	t.Helper()
	b, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheHighestTermLeavesSomeToClaim(t *testing.T) {
	world(t, func(f *fleet) {
		members := []*member{f.add("a", 0), f.add("b", 0)}
		f.wait(5 * time.Second)
		for i, term := range []uint64{maxTerm, honestTerm + termStep + 7, honestTerm} {
			for _, m := range members {
				m.Receive("rogue", claimed(t, Heartbeat{Seq: uint64(i + 1), Term: term, Name: "rogue"}))
			}
		}
		f.wait(10 * time.Second)
		wantLeader(t, f, "a")
		c := f.add("c", 0)
		f.wait(5 * time.Second)
		wantLeader(t, f, "a")
		if got := c.Status().Term; got <= honestTerm {
			t.Errorf("the newcomer follows term %d, want one above the rogue's", got)
		}
	})
}

func TestABlockedMemberCannotLead(t *testing.T) {
	world(t, func(f *fleet) {
		a := f.add("a", 0)
		f.wait(5 * time.Second)
		blocked := false
		a.cfg.Ignore = func(name string) bool { return name == "rogue" && blocked }
		for i := range uint64(20) {
			a.Receive("rogue", claimed(t, Heartbeat{Seq: i + 1, Term: 1000, Name: "rogue"}))
			f.wait(time.Second)
			if i == 9 {
				if got := a.Status().Leader; got != "rogue" {
					t.Errorf("before it is blocked %q leads, want the rogue: the test proves nothing", got)
				}
				blocked = true
			}
		}
		wantLeader(t, f, "a")
	})
}

// A claim against a leader that all hear is told of by those who hear it. What an honest mesh does is not.
func TestWhoTakesTheLeadFromALivingLeaderIsTold(t *testing.T) {
	world(t, func(f *fleet) {
		f.add("a", 0)
		b, c := f.add("b", 0), f.add("c", 0)
		f.wait(20 * time.Second)
		wantLeader(t, f, "a")
		for _, m := range []*member{b, c} {
			m.Receive("rogue", claimed(t, Heartbeat{Seq: 1, Term: 1000, Name: "rogue"}))
			if got := m.Taken(); got.By != "rogue" || got.From != "a" {
				t.Errorf("%s tells of %+v, want the rogue that took the lead from a", m.name, got)
			}
		}
	})
	for name, change := range map[string]func(f *fleet){
		"a leader leaves":             func(f *fleet) { f.leave(f.members["a"]) },
		"a leader crashes":            func(f *fleet) { f.crash(f.members["a"]) },
		"a leader cannot commit":      func(f *fleet) { f.set(f.members["a"], false) },
		"a link of the leader breaks": func(f *fleet) { f.unlink("a", "b") },
		"a leader restarts":           func(f *fleet) { f.crash(f.members["a"]); f.boot(f.members["a"]) },
	} {
		world(t, func(f *fleet) {
			f.latency = 200 * time.Millisecond
			for _, n := range []string{"a", "b", "c", "d"} {
				f.add(n, 0)
			}
			f.wait(20 * time.Second)
			change(f)
			f.wait(20 * time.Second)
			for n, m := range f.members {
				if got := m.Taken(); m.alive && got.By != "" {
					t.Errorf("%s: %s tells of %+v", name, n, got)
				}
			}
		})
	}
}
