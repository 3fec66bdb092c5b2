package leader

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// One comes before x, the other after it.
var rank2, later = []Peer{{Name: "b"}}, []Peer{{Name: "z"}}

// follower is a member that follows a, which leads with term 5 and was heard at the time now.
func follower(now time.Time) *election {
	e := newElection("x", 0, false, defaultTuning(), now)
	e.receive(now, "a", Heartbeat{Term: 5, Name: "a"})
	return e
}

func TestAMemberThatCannotLeadForgetsASilentLeaderOnTime(t *testing.T) {
	now := time.Now()
	if got, want := follower(now).due(now.Add(time.Second), nil, false).next, now.Add(3*time.Second); !got.Equal(want) {
		t.Errorf("looks again after %v, want 3 s", got.Sub(now))
	}
}

// Who resigns must not take its place again before somebody else could.
func TestWhoResignsLetsTheOthersGoFirst(t *testing.T) {
	now := time.Now()
	e := newElection("a", 9, false, defaultTuning(), now)
	e.lead(now)
	e.resign(now)
	if s := e.due(now, rank2, true); s.claim || !s.next.Equal(now.Add(250*time.Millisecond)) {
		t.Errorf("got %+v, want a claim 250 ms later", s)
	}
}

func TestASilentLeaderIsAskedForTwice(t *testing.T) {
	now := time.Now()
	e := follower(now)
	var asked []time.Duration
	at := now
	for {
		s := e.due(at, later, true)
		if s.ask {
			asked = append(asked, at.Sub(now))
		}
		if s.claim {
			break
		}
		at = s.next
	}
	if fmt.Sprint(asked) != "[2s 2.5s]" || at.Sub(now) != 3*time.Second {
		t.Errorf("asked after %v, claimed after %v; want 2 s, 2.5 s and 3 s", asked, at.Sub(now))
	}
}

// Somebody may have taken the place while this member could not.
func TestAPlaceLongVacantIsAskedFor(t *testing.T) {
	now := time.Now()
	e := follower(now)
	e.vacate(now)
	at := now.Add(10 * time.Second)
	first := e.due(at, later, true)
	if second := e.due(first.next, later, true); !first.ask || first.claim || !second.claim {
		t.Errorf("got %+v, then %+v; want a question and then a claim", first, second)
	}
}

func TestALateWordOfAFormerLeaderIsNotBelieved(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name string
		h    Heartbeat
		want string
	}{
		{"its own of before", Heartbeat{Term: 5, Name: "a"}, ""},
		{"an older one", Heartbeat{Term: 4, Name: "a"}, ""},
		{"a new claim", Heartbeat{Term: 6, Name: "a"}, "a"},
		{"somebody else's", Heartbeat{Term: 5, Name: "c"}, "c"},
	} {
		e := follower(now)
		e.receive(now, "a", Heartbeat{Term: 5, Name: "a", state: Unable})
		e.receive(now.Add(time.Second), c.h.Name, c.h)
		if e.leader.name != c.want {
			t.Errorf("%s: follows %q, want %q", c.name, e.leader.name, c.want)
		}
	}
}

func TestOnlyTheLeaderItselfResigns(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		from string
		h    Heartbeat
		want string
	}{
		{"a", Heartbeat{Term: 5, Name: "a", state: Unable}, ""},
		{"b", Heartbeat{Term: 9, Name: "b", state: Unable}, "a"},
		{"b", Heartbeat{Term: 5, Name: "a", state: Unable}, "a"},
		{"a", Heartbeat{Term: 4, Name: "a", state: Unable}, "a"},
	} {
		e := follower(now)
		e.receive(now, c.from, c.h)
		if e.leader.name != c.want {
			t.Errorf("%s sends %+v: follows %q, want %q", c.from, c.h, e.leader.name, c.want)
		}
	}
}

// What is passed on is what this member believes: a newer term that it heard of from others, too.
func TestWhatIsPassedOnNamesTheTermThatIsFollowed(t *testing.T) {
	now := time.Now()
	e := follower(now)
	e.receive(now, "b", Heartbeat{Term: 7, Name: "a"})
	if h := e.passOn(now); h.Term != 7 || h.Name != "a" {
		t.Errorf("passes on %+v, want term 7 of a", h)
	}
}

func TestTheWorkShownIsThatOfTheLeaderFollowed(t *testing.T) {
	now := time.Now()
	e := follower(now)
	e.receive(now, "a", Heartbeat{Term: 5, Name: "a", state: Committing})
	e.receive(now, "b", Heartbeat{Term: 8, Name: "c", state: Waiting})
	if e.leader.name != "c" || e.work.state != Waiting {
		t.Errorf("follows %q, which is %s; want c, waiting", e.leader.name, e.work.state)
	}
}

// An answer that is barely newer than what is known ends no questions; the leader itself does.
func TestWhatEndsTheQuestions(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name, from string
		age        time.Duration
		want       bool
	}{
		{"the leader", "a", 0, true},
		{"news passed on", "b", 0, true},
		{"hardly news", "b", 1900 * time.Millisecond, false},
	} {
		e := follower(now)
		at := now.Add(2 * time.Second)
		if s := e.due(at, later, true); !s.ask {
			t.Fatalf("got %+v, want a question", s)
		}
		e.receive(at, c.from, Heartbeat{Term: 5, Name: "a", age: c.age})
		if ended := e.asked.IsZero(); ended != c.want {
			t.Errorf("%s: ended the questions: %v, want %v", c.name, ended, c.want)
		}
	}
}

// sent collects what an elector sends, as "to: state detail", and tells it whether it could lead.
type sent struct {
	mu       sync.Mutex
	words    []string
	able     bool
	statuses []string
}

// said returns what was sent since the last time.
func (s *sent) said() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	words := s.words
	s.words = nil
	return words
}

func elector(t *testing.T, s *sent, change func(*Config)) *Elector {
	t.Helper()
	cfg := Config{Name: "x", Peers: func() []Peer { return rank2 }, Able: func() (bool, string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.able, "no way"
	},
		Send: func(to string, b []byte) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			h, err := decode(b)
			s.words = append(s.words, strings.TrimSpace(fmt.Sprintf("%s: %s %s", to, h.state, h.detail)))
			return err
		},
		OnChange: func(st Status) {
			s.statuses = append(s.statuses, fmt.Sprintf("%q %v %v %s", st.Leader, st.Self, st.Eligible, st.Why))
		}}
	if change != nil {
		change(&cfg)
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestAnElectorThatCannotBeMadeSaysWhy(t *testing.T) {
	if e, err := New(Config{Name: "x"}); err == nil || e != nil {
		t.Errorf("got %v, %v", e, err)
	}
	tuned := defaultTuning()
	tuned.Stagger, tuned.HandOver = 0, 0
	elector(t, &sent{}, func(c *Config) { c.tuning = tuned })
}

func TestTheLifeOfALeaderIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sent{able: true}
		e := elector(t, s, nil)
		if st := e.Status(); st.Why != "not started" || st.Eligible {
			t.Errorf("before it runs: %+v", st)
		}
		// What nobody could hear before Run is nobody's silence.
		time.Sleep(10 * time.Second)
		stop := start(t, e)
		time.Sleep(2 * time.Second)
		if since, vacant := e.Vacant(); !vacant || time.Since(since) != 2*time.Second {
			t.Errorf("nobody leads: vacant %v since %v", vacant, time.Since(since))
		}
		time.Sleep(2 * time.Second)
		if st := e.Status(); !st.Self || st.Why != "" {
			t.Fatalf("after 4 s: %+v, want it to lead", st)
		}
		if _, vacant := e.Vacant(); vacant {
			t.Error("it leads, and the place is vacant")
		}
		stop()
		if st := e.Status(); st.Self || st.Eligible || st.Term != 1 {
			t.Errorf("stopped: %+v", st)
		}
		want := []string{`"" false true `, `"x" true true `, `"" false false stopped`}
		if !slices.Equal(s.statuses, want) {
			t.Errorf("told %q, want %q", s.statuses, want)
		}
	})
}

func TestNobodyNeedBeTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := start(t, elector(t, &sent{able: true}, func(c *Config) { c.OnChange = nil }))
		time.Sleep(10 * time.Second)
		stop()
	})
}

// start runs an elector until stop.
func start(t *testing.T, e *Elector) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx) }()
	return func() { cancel(); <-done }
}

func TestEachChangeOfAStatusIsOne(t *testing.T) {
	was := Status{Leader: "a", Term: 1, Eligible: true}
	for _, now := range []Status{{Leader: "b", Term: 1, Eligible: true}, {Leader: "a", Term: 2, Eligible: true}, {Leader: "a", Term: 1}, {Leader: "a", Term: 1, Eligible: true, Why: "so"}, {Leader: "a", Term: 1, Eligible: true, Self: true}} {
		if !changed(was, now) || changed(now, now) {
			t.Errorf("%+v after %+v", now, was)
		}
	}
}

// A packet may be lost, so a leader says three times that it resigns, to each peer, quickly; then it is silent.
func TestAResignationIsSaidThreeTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sent{able: true}
		e := elector(t, s, nil)
		defer start(t, e)()
		time.Sleep(10*time.Second + 10*time.Millisecond)
		s.said()
		e.Resign(t.Context())
		time.Sleep(300 * time.Millisecond)
		if got, want := s.said(), []string{"b: unable leaving", "b: unable leaving", "b: unable leaving"}; !slices.Equal(got, want) {
			t.Errorf("within 300 ms: %q, want %q", got, want)
		}
		time.Sleep(time.Minute)
		if got := s.said(); len(got) != 0 || e.Status().Self {
			t.Errorf("a minute later: %q, %+v", got, e.Status())
		}
	})
}

func TestWhoDoesNotLeadResignsInSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sent{}
		e := elector(t, s, nil)
		defer start(t, e)()
		time.Sleep(5 * time.Second)
		e.Resign(t.Context())
		s.mu.Lock()
		s.able = true
		s.mu.Unlock()
		time.Sleep(time.Minute)
		if got := s.said(); len(got) != 0 || e.Status().Self {
			t.Errorf("said %q, %+v", got, e.Status())
		}
	})
}

// Only who resigns is unable. A leader whose committer is, and that may lead all the same, leads.
func TestALeaderThatMayLeadSaysThatItDoes(t *testing.T) {
	now := time.Now()
	e := elector(t, &sent{}, nil)
	e.election.lead(now)
	e.SetWork(Unable, "busy", Session{}, time.Time{})
	if messages, _ := e.advance(now, true, "", rank2, nil); len(messages) != 1 || messages[0].h.state != Idle {
		t.Errorf("sends %+v, want an idle leader's word", messages)
	}
}

// Whoever steps down with an open edit says at once that it finishes it: its successor must not take it for frozen.
func TestAnOpenEditIsToldAtOnceByWhoStepsDown(t *testing.T) {
	now := time.Now()
	e := elector(t, &sent{}, nil)
	e.election.lead(now)
	e.SetWork(Committing, "", Session{Node: "n", ID: 7}, now.Add(time.Minute))
	e.advance(now, true, "", rank2, nil)
	now = now.Add(100 * time.Millisecond)
	if !e.take(now, "b", Heartbeat{Seq: 1, Term: 9, Name: "b"}) {
		t.Error("a lost leadership wakes nobody")
	}
	if messages, _ := e.advance(now, true, "", rank2, nil); len(messages) != 1 || messages[0].h.state != Finishing {
		t.Errorf("sends %+v, want finishing", messages)
	}
}

func TestWhatIsIgnoredWakesNobody(t *testing.T) {
	now := time.Now()
	e := elector(t, &sent{}, nil)
	if !e.take(now, "a", Heartbeat{Seq: 5, Term: 5, Name: "a"}) {
		t.Fatal("a first leader wakes nobody: the test proves nothing")
	}
	for _, h := range []Heartbeat{{Seq: 5, Term: 5, Name: "a"}, {Seq: 6, Term: maxTerm, Name: "b"}} {
		if e.take(now, h.Name, h) || e.election.leader.name != "a" {
			t.Errorf("%+v woke it, or is followed: %+v", h, e.election.leader)
		}
	}
}

func TestABlockedMemberIsIgnoredThroughOthersToo(t *testing.T) {
	e, now := listener(t)
	e.cfg.Ignore = func(name string) bool { return name == "bad" }
	hear(t, e, "bad", Heartbeat{Seq: 1, Term: 3, Name: "bad"})
	hear(t, e, "b", Heartbeat{Seq: 1, Term: 3, Name: "bad"})
	hear(t, e, "bad", Heartbeat{Seq: 2, Term: 3, Name: "c"})
	if e.election.leader.name != "" {
		t.Errorf("follows %q", e.election.leader.name)
	}
	hear(t, e, "c", Heartbeat{Seq: 1, Term: 3, Name: "c"})
	if _, vacant := e.Vacant(); vacant || e.election.leader.name != "c" {
		t.Errorf("follows %q, vacant: %v; want c", e.election.leader.name, vacant)
	}
	*now = now.Add(2 * time.Second)
	if _, vacant := e.Vacant(); !vacant {
		t.Error("after two seconds of silence the place is not vacant")
	}
	*now = now.Add(time.Second)
	e.election.quiet(*now)
	if s := e.Status(); s.Leader != "" || s.Term != 3 {
		t.Errorf("nobody leads: %+v, want the highest term", s)
	}
}

func TestAnOrderIsKeptPerMember(t *testing.T) {
	var o order
	for i := range maxNames {
		if !o.fresh(fmt.Sprint(i), 5) {
			t.Fatalf("member %d: its first word is not fresh", i)
		}
	}
	for _, name := range []string{"0", "1", fmt.Sprint(maxNames - 1)} {
		if o.fresh(name, 5) {
			t.Errorf("member %s: its word is fresh twice", name)
		}
	}
	if !o.fresh("one more", 5) || len(o.last) != 1 {
		t.Errorf("%d members are remembered after one too many, want 1", len(o.last))
	}
}

func TestSilentSessionsAreNamedOnceInOrder(t *testing.T) {
	now := time.Now()
	var s sessions
	for i, id := range []uint64{9, 3, 7, 3, 1, 8, 2, 7} {
		s.note(now, fmt.Sprint("m", i), Session{Node: "n", ID: id})
	}
	if got := s.silent(now.Add(time.Minute), 15*time.Second, time.Hour); fmt.Sprint(got) != "[{n 1} {n 2} {n 3} {n 7} {n 8} {n 9}]" {
		t.Errorf("got %v", got)
	}
	if got := s.silent(now.Add(2*time.Hour), 15*time.Second, time.Hour); len(got) != 0 || len(s.of) != 0 {
		t.Errorf("after two hours: %v, %d kept", got, len(s.of))
	}
}

func TestRemovalsAloneStallToo(t *testing.T) {
	s, now := patient(), time.Now()
	waiting := Progress{Remove: 1, Placed: 10}
	for at := time.Duration(0); at < expiryPatience+30*time.Second; at += StallLook {
		if bar := s.Look(now.Add(at), waiting, "idler", false, Idle); bar != "" {
			t.Fatalf("bars %q after %v", bar, at)
		}
	}
	if bar := s.Look(now.Add(expiryPatience+31*time.Second), waiting, "idler", false, Idle); bar != "idler" {
		t.Errorf("bars %q, want idler", bar)
	}
	if !strings.Contains(s.Warning(), "1 removals") || !slices.Equal(s.PassedOver(), []string{"idler"}) || !slices.Equal(s.PassedOver(), []string{"idler"}) {
		t.Errorf("warns %q, passed over %v", s.Warning(), s.PassedOver())
	}
	// Where nothing waits any more, nothing is wrong, although nothing moved.
	if s.Look(now.Add(7*time.Minute), Progress{Placed: 10}, "next", false, Idle); s.Warning() != "" {
		t.Errorf("warns %q of nothing", s.Warning())
	}
}

// Who leads again says so at once, to everybody, and has done with its resignation.
func TestANewClaimIsToldAtOnce(t *testing.T) {
	now := time.Now()
	e := elector(t, &sent{}, nil)
	e.election.lead(now)
	e.advance(now, true, "", rank2, []string{"o"})
	e.advance(now, false, "no way", rank2, []string{"o"})
	now = now.Add(600 * time.Millisecond)
	messages, _ := e.advance(now, true, "", rank2, []string{"o"})
	if len(messages) != 2 || messages[0].to != "b" || messages[1].to != "o" || messages[0].h.state != Idle || messages[1].h.state != Idle {
		t.Errorf("sends %+v, want its claim to both", messages)
	}
	e.take(now, "b", Heartbeat{Seq: 1, Term: 9, Name: "b"})
	if messages, _ := e.advance(now.Add(time.Millisecond), true, "", rank2, nil); len(messages) != 0 {
		t.Errorf("sends %+v after it stepped down without an edit, want nothing", messages)
	}
}

func TestALeaderAnswersAWeakerClaim(t *testing.T) {
	now := time.Now()
	e := elector(t, &sent{}, nil)
	e.election.term = 5
	e.election.lead(now)
	e.SetWork(Committing, "", Session{}, time.Time{})
	e.advance(now, true, "", nil, nil)
	if s := e.Status(); s.Work != Committing {
		t.Errorf("a leader's status shows %s, want its own work", s.Work)
	}
	for i := range maxReplies + 10 {
		e.take(now, "z", Heartbeat{Seq: uint64(i), Term: 1, Name: "z"})
	}
	messages, _ := e.advance(now, true, "", nil, nil)
	if len(messages) != maxReplies || messages[0].to != "z" || messages[0].h.Name != "x" || messages[0].h.Term != 6 {
		t.Errorf("%d answers, the first of them %+v; want %d, the own claim", len(messages), messages[0], maxReplies)
	}
}

func TestALeaderThatLeavesIsMissedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sent{}
		e := elector(t, s, nil)
		defer start(t, e)()
		time.Sleep(10*time.Second + 300*time.Millisecond)
		hear(t, e, "a", Heartbeat{Seq: 1, Term: 1, Name: "a"})
		time.Sleep(100 * time.Millisecond)
		e.MemberLeft("a")
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := len(s.statuses); n < 2 || !strings.HasPrefix(s.statuses[n-2], `"a"`) || !strings.HasPrefix(s.statuses[n-1], `""`) {
			t.Errorf("told %q, want a, then nobody", s.statuses)
		}
	})
}
