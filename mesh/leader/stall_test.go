package mesh

import (
	"strings"
	"testing"
	"time"

	"banmesh/mesh/commit"
	"banmesh/mesh/leader"
)

// patient is a stall whose patience is 30 s, and 90 s more for a leader that is
// committing.
func patient() *stall {
	return newStall(commit.Config{MaxWait: 10 * time.Second, MinInterval: time.Second, Timeout: 90 * time.Second})
}

func TestALeaderUnderWhichNothingMovesIsBarred(t *testing.T) {
	s, now := patient(), time.Now()
	waiting := progress{add: 3, placed: 10, newest: 7}
	for at := time.Duration(0); at < 30*time.Second; at += stallLook {
		if bar := s.look(now.Add(at), waiting, "idler", false, leader.Idle); bar != "" || s.warning() != "" {
			t.Fatalf("after %v: bars %q, warns %q; want patience", at, bar, s.warning())
		}
	}
	if bar := s.look(now.Add(31*time.Second), waiting, "idler", false, leader.Idle); bar != "idler" || !s.bars("idler") {
		t.Errorf("after 31 s: bars %q, want idler", bar)
	}
	if w := s.warning(); !strings.Contains(w, "3 bans") || !strings.Contains(w, "idler") {
		t.Errorf("warning %q does not say what waits and who leads", w)
	}
	// The next one has as long, and then twice as long.
	if bar := s.look(now.Add(40*time.Second), waiting, "next", false, leader.Idle); bar != "" || s.warning() == "" {
		t.Errorf("the next leader: bars %q, warns %q; want the warning to stay", bar, s.warning())
	}
	if bar := s.look(now.Add(75*time.Second), waiting, "next", false, leader.Idle); bar != "" {
		t.Errorf("35 s later: bars %q", bar)
	}
	if bar := s.look(now.Add(105*time.Second), waiting, "next", false, leader.Idle); bar != "next" {
		t.Errorf("65 s later: bars %q, want next", bar)
	}
	if s.look(now.Add(110*time.Second), progress{placed: 13, newest: 9}, "third", false, leader.Idle); s.warning() != "" {
		t.Errorf("warns of %q although it moved", s.warning())
	}
	if s.look(now.Add(11*time.Minute), progress{placed: 13, newest: 9}, "third", false, leader.Idle); s.bars("idler") {
		t.Error("barred for ever")
	}
}

func TestWhatTakesItsTimeIsNoStall(t *testing.T) {
	for name, look := range map[string]func(s *stall, now time.Time, at time.Duration) string{
		"nothing waits": func(s *stall, now time.Time, at time.Duration) string {
			return s.look(now.Add(at), progress{placed: 10}, "a", false, leader.Idle)
		},
		"a storm, committed piece by piece": func(s *stall, now time.Time, at time.Duration) string {
			return s.look(now.Add(at), progress{add: 50, placed: int(at / (20 * time.Second))}, "a", false, leader.Idle)
		},
		"ended bans wait for company": func(s *stall, now time.Time, at time.Duration) string {
			return s.look(now.Add(at), progress{remove: 5, placed: 10}, "a", false, leader.Idle)
		},
		"a slow commit": func(s *stall, now time.Time, at time.Duration) string {
			return s.look(now.Add(min(at, 115*time.Second)), progress{add: 5, placed: 10}, "a", false, leader.Committing)
		},
		"another administrator's lock, tried again each minute": func(s *stall, now time.Time, at time.Duration) string {
			work := leader.Waiting
			if at%time.Minute == 0 {
				work = leader.Committing
			}
			return s.look(now.Add(at), progress{add: 5, placed: 10}, "a", false, work)
		},
		"nobody leads": func(s *stall, now time.Time, at time.Duration) string {
			return s.look(now.Add(at), progress{add: 5, placed: 10}, "", false, leader.Idle)
		},
	} {
		s, now := patient(), time.Now()
		for at := time.Duration(0); at < 5*time.Minute; at += stallLook {
			if bar := look(s, now, at); bar != "" || s.warning() != "" {
				t.Errorf("%s: after %v bars %q, warns %q", name, at, bar, s.warning())
				break
			}
		}
	}
}

func TestALeaderWaitsForAnotherAdministratorForTenMinutes(t *testing.T) {
	s, now := patient(), time.Now()
	for at := time.Duration(0); at < waitingFor; at += stallLook {
		if bar := s.look(now.Add(at), progress{add: 3}, "waiter", false, leader.Waiting); bar != "" || s.warning() != "" {
			t.Fatalf("after %v: bars %q, warns %q; want patience", at, bar, s.warning())
		}
	}
	if bar := s.look(now.Add(waitingFor), progress{add: 3}, "waiter", false, leader.Waiting); bar != "waiter" || s.warning() == "" {
		t.Errorf("after %v: bars %q, warns %q", waitingFor, bar, s.warning())
	}
}

func TestALeaderThatNoLongerWaitsIsBarred(t *testing.T) {
	s, now := patient(), time.Now()
	for at := time.Duration(0); at <= time.Minute; at += stallLook {
		s.look(now.Add(at), progress{add: 3}, "idler", false, leader.Waiting)
	}
	if bar := s.look(now.Add(85*time.Second), progress{add: 3}, "idler", false, leader.Idle); bar != "" {
		t.Errorf("25 s after it waited: bars %q", bar)
	}
	if bar := s.look(now.Add(91*time.Second), progress{add: 3}, "idler", false, leader.Idle); bar != "idler" {
		t.Errorf("31 s after it waited: bars %q, want idler", bar)
	}
}

func TestAStalledLeaderLetsTheOthersTryAgain(t *testing.T) {
	s, now := patient(), time.Now()
	waiting := progress{add: 3}
	s.look(now, waiting, "other", false, leader.Idle)
	s.look(now.Add(31*time.Second), waiting, "other", false, leader.Idle)
	s.look(now.Add(35*time.Second), waiting, "self", true, leader.Idle)
	if !s.bars("other") {
		t.Fatal("the former leader is not barred: the test proves nothing")
	}
	if bar := s.look(now.Add(70*time.Second), waiting, "self", true, leader.Idle); bar != "" || s.bars("other") {
		t.Errorf("under this one nothing moves either: bars %q, the other one barred %v", bar, s.bars("other"))
	}
	if !strings.Contains(s.warning(), "this router leads") {
		t.Errorf("warning %q", s.warning())
	}
}
