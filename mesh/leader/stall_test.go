package leader

import (
	"strings"
	"testing"
	"time"
)

// patient is a stall whose patience is 30 s, and 90 s more for a leader that is
// committing.
func patient() *Stall {
	return NewStall(Pace{Window: 2 * time.Second, MaxWait: 10 * time.Second, Interval: 10 * time.Second, Timeout: 90 * time.Second})
}

func TestALeaderUnderWhichNothingMovesIsBarred(t *testing.T) {
	s, now := patient(), time.Now()
	waiting := Progress{Add: 3, Placed: 10, Newest: 7}
	for at := time.Duration(0); at < 30*time.Second; at += StallLook {
		if bar := s.Look(now.Add(at), waiting, "idler", false, Idle); bar != "" || strings.Contains(s.Warning(), "moved") {
			t.Fatalf("after %v: bars %q, warns %q; want patience", at, bar, s.Warning())
		}
	}
	if bar := s.Look(now.Add(31*time.Second), waiting, "idler", false, Idle); bar != "idler" || !s.Bars("idler") {
		t.Errorf("after 31 s: bars %q, want idler", bar)
	}
	if w := s.Warning(); !strings.Contains(w, "3 bans") || !strings.Contains(w, "idler") {
		t.Errorf("warning %q does not say what waits and who leads", w)
	}
	// The next one has as long, and then twice as long.
	if bar := s.Look(now.Add(40*time.Second), waiting, "next", false, Idle); bar != "" || s.Warning() == "" {
		t.Errorf("the next leader: bars %q, warns %q; want the warning to stay", bar, s.Warning())
	}
	if bar := s.Look(now.Add(75*time.Second), waiting, "next", false, Idle); bar != "" {
		t.Errorf("35 s later: bars %q", bar)
	}
	if bar := s.Look(now.Add(105*time.Second), waiting, "next", false, Idle); bar != "next" {
		t.Errorf("65 s later: bars %q, want next", bar)
	}
	if s.Look(now.Add(110*time.Second), Progress{Placed: 13, Newest: 9}, "third", false, Idle); s.Warning() != "" {
		t.Errorf("warns of %q although it moved", s.Warning())
	}
	if s.Look(now.Add(11*time.Minute), Progress{Placed: 13, Newest: 9}, "third", false, Idle); s.Bars("idler") {
		t.Error("barred for ever")
	}
}

func TestWhatTakesItsTimeIsNoStall(t *testing.T) {
	for name, look := range map[string]func(s *Stall, now time.Time, at time.Duration) string{
		"nothing waits": func(s *Stall, now time.Time, at time.Duration) string {
			return s.Look(now.Add(at), Progress{Placed: 10}, "a", false, Idle)
		},
		"a storm, committed piece by piece": func(s *Stall, now time.Time, at time.Duration) string {
			return s.Look(now.Add(at), Progress{Add: 50, Placed: int(at / (10 * time.Second))}, "a", false, Idle)
		},
		"ended bans wait for company": func(s *Stall, now time.Time, at time.Duration) string {
			return s.Look(now.Add(at), Progress{Remove: 5, Placed: 10}, "a", false, Idle)
		},
		"a slow commit": func(s *Stall, now time.Time, at time.Duration) string {
			return s.Look(now.Add(min(at, 115*time.Second)), Progress{Add: 5, Placed: 10}, "a", false, Committing)
		},
		"another administrator's lock, tried again each minute": func(s *Stall, now time.Time, at time.Duration) string {
			work := Waiting
			if at%time.Minute == 0 {
				work = Committing
			}
			return s.Look(now.Add(at), Progress{Add: 5, Placed: 10}, "a", false, work)
		},
		"nobody leads": func(s *Stall, now time.Time, at time.Duration) string {
			return s.Look(now.Add(at), Progress{Add: 5, Placed: 10}, "", false, Idle)
		},
	} {
		s, now := patient(), time.Now()
		for at := time.Duration(0); at < 5*time.Minute; at += StallLook {
			if bar := look(s, now, at); bar != "" || s.Warning() != "" {
				t.Errorf("%s: after %v bars %q, warns %q", name, at, bar, s.Warning())
				break
			}
		}
	}
}

func TestALeaderWaitsForAnotherAdministratorForTenMinutes(t *testing.T) {
	s, now := patient(), time.Now()
	for at := time.Duration(0); at < waitingFor; at += StallLook {
		if bar := s.Look(now.Add(at), Progress{Add: 3}, "waiter", false, Waiting); bar != "" || s.Warning() != "" {
			t.Fatalf("after %v: bars %q, warns %q; want patience", at, bar, s.Warning())
		}
	}
	if bar := s.Look(now.Add(waitingFor), Progress{Add: 3}, "waiter", false, Waiting); bar != "waiter" || s.Warning() == "" {
		t.Errorf("after %v: bars %q, warns %q", waitingFor, bar, s.Warning())
	}
}

func TestALeaderThatNoLongerWaitsIsBarred(t *testing.T) {
	s, now := patient(), time.Now()
	for at := time.Duration(0); at <= time.Minute; at += StallLook {
		s.Look(now.Add(at), Progress{Add: 3}, "idler", false, Waiting)
	}
	if bar := s.Look(now.Add(85*time.Second), Progress{Add: 3}, "idler", false, Idle); bar != "" {
		t.Errorf("25 s after it waited: bars %q", bar)
	}
	if bar := s.Look(now.Add(91*time.Second), Progress{Add: 3}, "idler", false, Idle); bar != "idler" {
		t.Errorf("31 s after it waited: bars %q, want idler", bar)
	}
}

func TestAStalledLeaderLetsTheOthersTryAgain(t *testing.T) {
	s, now := patient(), time.Now()
	waiting := Progress{Add: 3}
	s.Look(now, waiting, "other", false, Idle)
	s.Look(now.Add(31*time.Second), waiting, "other", false, Idle)
	s.Look(now.Add(35*time.Second), waiting, "self", true, Idle)
	if !s.Bars("other") {
		t.Fatal("the former leader is not barred: the test proves nothing")
	}
	if bar := s.Look(now.Add(70*time.Second), waiting, "self", true, Idle); bar != "" || s.Bars("other") {
		t.Errorf("under this one nothing moves either: bars %q, the other one barred %v", bar, s.Bars("other"))
	}
	if !strings.Contains(s.Warning(), "this router leads") {
		t.Errorf("warning %q", s.Warning())
	}
}

// What comes between two looks has not waited since the first of them.
func TestALeaderHasItsTimeFromWhenSomethingWaits(t *testing.T) {
	s, now := patient(), time.Now()
	s.Look(now, Progress{Placed: 10}, "busy", false, Idle)
	at := now.Add(StallLook)
	for end := at.Add(30 * time.Second); at.Before(end); at = at.Add(StallLook) {
		if bar := s.Look(at, Progress{Add: 1, Placed: 10}, "busy", false, Idle); bar != "" {
			t.Fatalf("barred %v after a ban was first seen to wait, want patience of %v", at.Sub(now)-StallLook, s.patience)
		}
	}
	if bar := s.Look(at, Progress{Add: 1, Placed: 10}, "busy", false, Idle); bar != "busy" {
		t.Errorf("bars %q once patience is over, want busy", bar)
	}
}

// A leader that has nothing else to do records what it will place within seconds; one that does not is told of at once, though
// it is not passed over yet.
func TestALeaderThatDoesNotBeginIsToldOfWithinSeconds(t *testing.T) {
	s, now := NewStall(Pace{Window: 2 * time.Second, MaxWait: 10 * time.Second, Interval: 30 * time.Second, Timeout: 90 * time.Second}), time.Now()
	s.Look(now.Add(-2*time.Minute), Progress{Placed: 10}, "idler", false, Idle)
	for at := time.Duration(0); at <= 8*time.Second; at += time.Second {
		bar := s.Look(now.Add(at), Progress{Add: 1, Placed: 10, Came: now}, "idler", false, Idle)
		if told := s.Warning() != ""; bar != "" || told != (at >= 7*time.Second) {
			t.Fatalf("after %v: bars %q, warns %q", at, bar, s.Warning())
		}
	}
	if w := s.Warning(); !strings.Contains(w, "idler") || !s.Doubts() {
		t.Errorf("warns %q, doubts %v: want the leader's name, and a reading", w, s.Doubts())
	}
	if s.Look(now.Add(9*time.Second), Progress{Add: 1, Placed: 10, Came: now, Told: true}, "idler", false, Idle); s.Warning() != "" {
		t.Errorf("warns of a leader that says why: %q", s.Warning())
	}
}

func TestALeaderThatBeginsInTimeIsNotToldOf(t *testing.T) {
	const second = time.Second
	for name, look := range map[string]struct {
		at   func(at time.Duration) (Progress, State)
		self bool
	}{
		"it is this router": {func(time.Duration) (Progress, State) { return Progress{Add: 1}, Idle }, true},
		"bans without end of a storm, each ten seconds a batch": {func(at time.Duration) (Progress, State) {
			return Progress{Add: 5, Placed: int((at - 2*second) / (10 * second))}, Idle
		}, false},
		"a commit of a moment ago: the next waits for its turn": {func(at time.Duration) (Progress, State) {
			return Progress{Add: 1, Placed: int((at + 28*second) / (30 * second))}, Idle
		}, false},
		"a conductor that takes a minute to answer": {func(at time.Duration) (Progress, State) {
			if at < 2*second || at > 62*second {
				return Progress{Add: 1}, Idle
			}
			return Progress{Add: 1}, Committing
		}, false},
		"nobody leads": {func(time.Duration) (Progress, State) { return Progress{Add: 1}, Idle }, false},
	} {
		s, now := NewStall(Pace{Window: 2 * second, MaxWait: 10 * second, Interval: 30 * second, Timeout: 90 * second}), time.Now()
		who := "a"
		if name == "nobody leads" {
			who = ""
		}
		s.Look(now.Add(-2*time.Minute), Progress{}, who, look.self, Idle)
		for at := time.Duration(0); at < 66*second; at += second {
			p, work := look.at(at)
			p.Came = now.Add(at)
			if s.Look(now.Add(at), p, who, look.self, work); strings.Contains(s.Warning(), "begun") {
				t.Errorf("%s: after %v warns %q", name, at, s.Warning())
				break
			}
		}
	}
}

// A leader that does nothing is passed over by one member after the other. Who follows a while longer must not take the next
// leader for one that has no right to lead.
func TestALeaderIsNamedUntilSomethingMovesUnderIt(t *testing.T) {
	s, now := patient(), time.Now()
	at := func(after time.Duration, who string, add, placed int) {
		s.Look(now.Add(after), Progress{Add: add, Placed: placed, Came: now}, who, false, Idle)
	}
	named := func(what string, want bool) {
		t.Helper()
		if s.Named("idler") != want {
			t.Errorf("%s: named %v, want %v", what, !want, want)
		}
	}
	at(0, "idler", 0, 10)
	at(time.Second, "idler", 1, 10)
	at(5*time.Second, "idler", 1, 10)
	named("it may still begin", false)
	at(9*time.Second, "idler", 1, 10)
	named("it has not begun", true)
	at(10*time.Second, "next", 1, 10)
	at(15*time.Second, "next", 0, 11)
	named("the next one has committed", true)
	at(40*time.Second, "idler", 1, 11)
	at(45*time.Second, "idler", 0, 12)
	named("it commits", false)
}
