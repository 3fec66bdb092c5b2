package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"banmesh/store"
)

type decisionsOf struct {
	New, Deleted []struct {
		ID                                             int
		Duration, Origin, Scenario, Scope, Type, Value string
	}
}

// stream asks as a bouncer does and returns the values that came and went.
func (d decisionsOf) values() (came, went []string) {
	for _, e := range d.New {
		came = append(came, e.Value)
	}
	for _, e := range d.Deleted {
		went = append(went, e.Value)
	}
	return came, went
}

func TestDecisionsStream(t *testing.T) {
	set, c := &fakeSet{}, newClock()
	set.hold("203.0.113.7/32", "198.51.100.0/24", "2001:db8::/48")
	s := newServer(t, Config{Set: set, Now: c.now, TokenFile: tokens(t, goodToken+"\n"+otherToken+"\n", 0o600)})
	h := s.handler(loopback)
	stream := func(query, key string) (came, went []string) {
		t.Helper()
		a := ask(t, h, "GET", "/v1/decisions/stream"+query, "X-Api-Key", key)
		var d decisionsOf
		if a.status != 200 || json.Unmarshal([]byte(a.body), &d) != nil {
			t.Fatalf("%d %s", a.status, a.body)
		}
		for _, e := range append(d.New, d.Deleted...) {
			want := "Ip"
			if strings.Contains(e.Value, "/") {
				want = "Range"
			}
			if length, err := time.ParseDuration(e.Duration); err != nil || length <= 0 || e.Scope != want || e.Type != "ban" || e.Origin != "banmesh" || e.ID <= 0 {
				t.Errorf("decision %+v", e)
			}
		}
		return d.values()
	}
	expect := func(what string, came, went, wantCame, wantWent []string) {
		t.Helper()
		if !slices.Equal(came, wantCame) || !slices.Equal(went, wantWent) {
			t.Errorf("%s: came %q, went %q; want %q, %q", what, came, went, wantCame, wantWent)
		}
	}
	all := []string{"198.51.100.0/24", "203.0.113.7", "2001:db8::/48"}
	came, went := stream("?startup=true", goodToken)
	expect("at start", came, went, all, nil)
	came, went = stream("", goodToken)
	expect("no change", came, went, nil, nil)
	came, went = stream("", otherToken)
	expect("another bouncer, which is not at its start", came, went, all, nil)

	set.hold("198.51.100.0/24", "203.0.113.8/32", "2001:db8::/48")
	s.Changed(someBans)
	came, went = stream("?startup=false", goodToken)
	expect("one ban and one unban", came, went, []string{"203.0.113.8"}, []string{"203.0.113.7"})
	came, went = stream("", goodToken)
	expect("told once", came, went, nil, nil)
	came, went = stream("", otherToken)
	expect("told each", came, went, []string{"203.0.113.8"}, []string{"203.0.113.7"})
	came, went = stream("?startup=true&scopes=ip", goodToken)
	expect("addresses only", came, went, []string{"203.0.113.8"}, nil)
	came, went = stream("?startup=true&origins=CAPI", goodToken)
	expect("another origin", came, went, nil, nil)

	set.bans[1].Until += store.Millis(time.Hour.Milliseconds())
	s.Changed(someBans)
	came, went = stream("", goodToken)
	expect("a ban that lasts longer", came, went, []string{"203.0.113.8"}, []string{"203.0.113.8"})

	c.pass(90 * time.Minute) // the others have run out, here and at the bouncer
	set.bans = set.bans[1:2]
	s.Changed(someBans)
	came, went = stream("", goodToken)
	expect("what has run out", came, went, nil, nil)
}

func TestDecisionsOfAnAddress(t *testing.T) {
	set := &fakeSet{}
	set.hold("203.0.113.7/32", "203.0.113.0/24")
	h := newServer(t, Config{Set: set, Now: newClock().now}).handler(loopback)
	for query, want := range map[string]int{
		"?ip=203.0.113.7": 2, "?ip=203.0.113.8": 1, "?ip=192.0.2.1": 0, "?range=203.0.113.0/25": 1, "?range=203.0.112.0/23&contains=false": 2,
		"": 2, "?scope=ip": 1, "?scope=Range&value=203.0.113.0/24": 1, "?type=captcha": 0,
	} {
		a := ask(t, h, "GET", "/v1/decisions"+query)
		var got []json.RawMessage
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != 200 || len(got) != want || want == 0 && a.body != "null" {
			t.Errorf("%s: %d %s, want %d decisions", query, a.status, a.body, want)
		}
	}
	if a := ask(t, h, "GET", "/v1/decisions?ip=x"); a.status != 400 || !strings.Contains(a.body, `"message"`) {
		t.Errorf("no address: %d %s", a.status, a.body)
	}
}

func TestDecisionsAreForBouncersWithAKey(t *testing.T) {
	h := newServer(t, Config{Set: mixed(), TokenFile: tokens(t, goodToken, 0o600)}).handler(loopback)
	for _, path := range []string{"/v1/decisions", "/v1/decisions/stream?startup=true", "/feed/plain"} {
		if a := ask(t, h, "GET", path, "X-Api-Key", otherToken); a.status != 403 || a.body != "{\"message\":\"access forbidden\"}\n" {
			t.Errorf("%s with another key: %d %s", path, a.status, a.body)
		}
		if a := ask(t, h, "GET", path, "X-Api-Key", goodToken); a.status != 200 {
			t.Errorf("%s with the key: %d", path, a.status)
		}
	}
}

// Emptiness is no knowledge: a bouncer or firewall keeps what it has while this
// router may know too little.
func TestDecisionsAndFeedsWaitUntilSettled(t *testing.T) {
	h := newServer(t, Config{Set: &fakeSet{}, Ready: func() error { return errors.New("alone") }}).handler(loopback)
	for _, path := range []string{"/v1/decisions", "/v1/decisions/stream?startup=true", "/feed/plain", "/feed/json", "/feed/srx"} {
		if a := ask(t, h, "GET", path); a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}

// broken is a connection that ends before the answer has arrived: it takes what it is given, or not even that.
type broken struct {
	*httptest.ResponseRecorder
	write, flush error
}

func (b broken) Write(p []byte) (int, error) { return len(p), b.write }
func (b broken) FlushError() error           { return b.flush }

// What did not arrive is told again, with the next answer that does.
func TestAnAnswerThatDoesNotArriveLosesNoDecision(t *testing.T) {
	gone := errors.New("broken pipe")
	for name, lost := range map[string]broken{"not written": {write: gone}, "not sent": {flush: gone}} {
		for _, query := range []string{"", "?startup=true"} {
			t.Run(name+query, func(t *testing.T) {
				set := &fakeSet{}
				set.hold("203.0.113.7/32")
				s := newServer(t, Config{Set: set, Now: newClock().now})
				h := s.handler(loopback)
				ask(t, h, "GET", "/v1/decisions/stream?startup=true", "X-Api-Key", "k")
				set.hold("203.0.113.7/32", "203.0.113.8/32")
				s.Changed(someBans)
				r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:7980/v1/decisions/stream"+query, nil)
				r.Header.Set("X-Api-Key", "k")
				lost.ResponseRecorder = httptest.NewRecorder()
				h.ServeHTTP(lost, r)
				a := ask(t, h, "GET", "/v1/decisions/stream", "X-Api-Key", "k")
				if !strings.Contains(a.body, "203.0.113.8") {
					t.Errorf("the ban of the lost answer is not told again: %s", a.body)
				}
				// A bouncer whose start failed holds nothing yet.
				if again := strings.Contains(a.body, "203.0.113.7"); again != (query != "") {
					t.Errorf("the earlier ban told again: %v: %s", again, a.body)
				}
			})
		}
	}
}

func TestBouncersThatAreRememberedAreBounded(t *testing.T) {
	s := newServer(t, Config{Set: mixed()})
	h := s.handler(loopback)
	for i := range 3 * maxBouncers {
		ask(t, h, "GET", "/v1/decisions/stream", "X-Api-Key", strings.Repeat("k", i+1))
	}
	if n := len(s.decisions.bouncers); n != maxBouncers {
		t.Errorf("%d are remembered, want %d", n, maxBouncers)
	}
}

// A ban that a bouncer is told of costs a look at its prefix, not one at the whole set; what else changes does.
func TestAChangeIsLookedAtWhereItIs(t *testing.T) {
	set := &fakeSet{}
	set.hold("198.51.100.7/32", "203.0.113.0/24", "203.0.113.7/32")
	s := newServer(t, Config{Set: set, Now: newClock().now})
	h := s.handler(loopback)
	ask(t, h, "GET", "/v1/decisions/stream?startup=true")
	about := func(k store.EventKind, prefixes ...string) (c store.Change) {
		for _, p := range prefixes {
			c.Events = append(c.Events, store.Event{Kind: k, Prefix: netip.MustParsePrefix(p)})
		}
		return c
	}
	for _, step := range []struct {
		what       string
		holds      []string
		change     store.Change
		came, went string
		whole      bool
	}{
		{"a ban", []string{"198.51.100.7/32", "203.0.113.0/24", "203.0.113.7/32", "203.0.113.8/32"}, about(store.EventBan, "203.0.113.8/32"), "203.0.113.8", "", false},
		{"a lift", []string{"198.51.100.7/32", "203.0.113.0/24", "203.0.113.8/32"}, about(store.EventLift, "203.0.113.7/32"), "", "203.0.113.7", false},
		{"a wide one and one in it", []string{"198.51.100.7/32", "203.0.113.9/32"}, about(store.EventExpire, "203.0.113.0/24", "203.0.113.9/32", "203.0.113.8/32"),
			"203.0.113.9", "203.0.113.0/24 203.0.113.8", false},
		{"IPv6", []string{"198.51.100.7/32", "203.0.113.9/32", "2001:db8::/48"}, about(store.EventBan, "2001:db8::/48"), "2001:db8::/48", "", false},
		{"an allow", []string{"203.0.113.9/32", "2001:db8::/48"}, about(store.EventAllow, "198.51.100.0/24"), "", "198.51.100.7", true},
		{"more than is told", []string{"203.0.113.9/32"}, store.Change{More: 1}, "", "2001:db8::/48", true},
		{"what changes nothing", []string{"203.0.113.9/32"}, about(store.EventPlaced, "203.0.113.9/32"), "", "", false},
	} {
		before := set.looked()
		set.hold(step.holds...)
		s.Changed(step.change)
		var d decisionsOf
		if a := ask(t, h, "GET", "/v1/decisions/stream"); json.Unmarshal([]byte(a.body), &d) != nil {
			t.Fatalf("%s: %s", step.what, a.body)
		}
		came, went := d.values()
		if strings.Join(came, " ") != step.came || strings.Join(went, " ") != step.went || (set.looked() > before) != step.whole {
			t.Errorf("%s: came %q, went %q, the whole set read: %v; want %q, %q, %v", step.what, came, went, set.looked() > before, step.came, step.went, step.whole)
		}
	}
}

// The store tells of nothing that lives again because the clock was set back.
func TestAClockSetBackShowsWhatLivesAgain(t *testing.T) {
	clock := newClock()
	kept := &effective{now: clock.now}
	st, err := store.Open(store.Config{Origin: "a", Path: "s", Volume: store.NewVolume(), Now: clock.now, OnChange: kept.changed})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	kept.set = st
	kept.current()
	if _, err := st.Ban(t.Context(), []store.BanRequest{{Prefix: netip.MustParsePrefix("203.0.113.1/32"), Until: store.At(clock.now().Add(time.Minute))}}); err != nil {
		t.Fatal(err)
	}
	await := func(n int) {
		t.Helper()
		for until := time.Now().Add(10 * time.Second); len(kept.current()) != n; { // the store tells a moment later
			if time.Now().After(until) {
				t.Fatalf("it holds %v, want %d", kept.current(), n)
			}
			time.Sleep(time.Millisecond)
		}
	}
	await(1)
	clock.pass(65 * time.Second)
	st.Tick(true)
	await(0)
	clock.pass(-35 * time.Second)
	kept.current() // before the store has noticed
	st.Tick(true)
	if got := kept.current(); len(got) != 1 {
		t.Errorf("after the clock was set back it holds %v, want the ban", got)
	}
}

// After any changes of a real set, by its member and by a peer, what was kept up is what reading it anew gives: also within the
// bounds of what a peer may do, and while other bouncers ask.
func TestWhatIsKeptUpIsTheSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := newClock()
		opened := func(origin string, changed func(store.Change)) *store.Store {
			st, err := store.Open(store.Config{
				Origin: origin, Path: "s", Volume: store.NewVolume(), Now: clock.now, OnChange: changed,
				Limits: store.Limits{LivePerOrigin: 3, SpaceV4: 23}, Guard: store.Guard{WidestV4: 24, WidestV6: 32, SpaceV4: 25, SpaceV6: 48},
			})
			if err != nil {
				t.Fatal(err)
			}
			return st
		}
		kept := &effective{now: clock.now, takenJail: "crowdsec"}
		st := opened("a", kept.changed)
		defer st.Close()
		peer := opened("b", nil)
		defer peer.Close()
		kept.set = st
		done := make(chan struct{})
		var others sync.WaitGroup
		defer others.Wait()
		defer close(done)
		for range 2 {
			others.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
						kept.current()
						time.Sleep(time.Millisecond)
					}
				}
			})
		}
		prefixes := []netip.Prefix{}
		for _, p := range []string{"203.0.113.0/24", "203.0.113.0/25", "203.0.113.128/25", "203.0.113.0/32", "203.0.113.1/32", "203.0.113.128/32", "198.51.100.0/23", "198.51.100.7/32", "2001:db8::/48", "2001:db8::/64", "2001:db8::1/128"} {
			prefixes = append(prefixes, netip.MustParsePrefix(p))
		}
		prefix := rapid.SampledFrom(prefixes)
		sent := uint64(0)
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			p := []netip.Prefix{prefix.Draw(t, "prefix")}
			who := map[string]*store.Store{"a": st, "b": peer}[rapid.SampledFrom([]string{"a", "b"}).Draw(t, "who")]
			ctx := context.Background()
			var err error
			switch what := rapid.IntRange(0, 15).Draw(t, "what"); what {
			case 0, 1:
				length := time.Duration(rapid.IntRange(-90, 90).Draw(t, "seconds")) * time.Second
				if what == 1 {
					length = time.Duration(rapid.IntRange(1, 40).Draw(t, "minutes")) * time.Minute
				}
				clock.pass(length)
				peer.Tick(true)
				st.Tick(true)
			case 2:
				err = who.Allow(ctx, []store.AllowRequest{{Prefix: p[0], Until: store.At(clock.now().Add(time.Hour))}})
			case 3:
				_, err = who.DropAllow(ctx, p)
			case 4:
				err = st.Block(ctx, "b")
			case 5:
				err = st.Unblock(ctx, "b")
			case 6:
				_, err = st.ConfirmHeld(ctx)
			case 7, 8, 9:
				_, err = who.Lift(ctx, store.LiftRequest{Prefixes: p})
			default:
				jail := rapid.SampledFrom([]string{"sshd", "crowdsec"}).Draw(t, "jail")
				_, err = who.Ban(ctx, []store.BanRequest{{Prefix: p[0], Jail: jail, Until: store.At(clock.now().Add(time.Duration(rapid.IntRange(1, 60).Draw(t, "for")) * time.Minute))}})
			}
			if err != nil {
				t.Logf("refused: %v", err)
			}
			for chunk, last := peer.Since(sent, 1<<20); len(chunk) > 0 && last > sent; chunk, last = peer.Since(sent, 1<<20) {
				if _, err := st.Merge(chunk); err != nil {
					t.Fatal(err)
				}
				sent = last
			}
			if !rapid.Bool().Draw(t, "asked") {
				continue
			}
			want := read(st, 0, "crowdsec")
			for until := time.Now().Add(10 * time.Second); !slices.Equal(kept.current(), want); { // the store tells a moment later
				if time.Now().After(until) {
					t.Fatalf("kept up %v, read anew %v", kept.current(), want)
				}
				time.Sleep(time.Millisecond)
			}
		}
	})
}

func TestTheSetIsLookedAtAgainWhileBouncersAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := &fakeSet{}
		s := newServer(t, Config{Set: set, Now: time.Now})
		h := s.handler(loopback)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.decisions.lookAgain(ctx)
		time.Sleep(3 * lookAgain)
		if n := set.looked(); n != 0 {
			t.Errorf("the set was read %d times although nobody asks", n)
		}
		ask(t, h, "GET", "/v1/decisions/stream?startup=true")
		set.hold("203.0.113.7/32") // and nobody tells
		time.Sleep(lookAgain + time.Second)
		before := set.looked()
		if a := ask(t, h, "GET", "/v1/decisions/stream"); !strings.Contains(a.body, "203.0.113.7") || set.looked() != before {
			t.Errorf("the bouncer was told %s, and the set read %d times for it", a.body, set.looked()-before)
		}
	})
}

func TestAnswersAtOnceAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{Set: &fakeSet{}, Now: time.Now})
		h := s.handler(loopback)
		for range maxAnswers {
			s.decisions.answers <- struct{}{}
		}
		for _, path := range []string{"/v1/decisions", "/v1/decisions/stream?startup=true"} {
			if a := ask(t, h, "GET", path); a.status != 503 || a.header.Get("Retry-After") == "" {
				t.Errorf("%s: %d %s", path, a.status, a.body)
			}
		}
		go func() {
			time.Sleep(answerWithin / 2)
			<-s.decisions.answers
		}()
		if a := ask(t, h, "GET", "/v1/decisions"); a.status != 200 {
			t.Errorf("when there is room again: %d %s", a.status, a.body)
		}
	})
}

// The bars are 300 ms for the start and 5 ms for what came since, on a machine with nothing else to do. The test fails only far
// beyond.
func TestFiguresDecisions(t *testing.T) {
	set := figureStore(t)
	s := newServer(t, Config{Set: set})
	h := s.handler(loopback)
	measure := func(what, path string, most time.Duration, before func()) {
		best := time.Hour
		size := 0
		for range 10 {
			before()
			began := time.Now()
			a := ask(t, h, "GET", path)
			best = min(best, time.Since(began))
			size = len(a.body)
		}
		t.Logf("%s of %d: %v, %d bytes", what, figureBans, best, size)
		if best > most {
			t.Errorf("%s of %d takes %v, want at most %v", what, figureBans, best, most)
		}
	}
	measure("start", "/v1/decisions/stream?startup=true", 5*300*time.Millisecond, func() { s.Changed(someBans) })
	measure("no change", "/v1/decisions/stream", 5*5*time.Millisecond, func() {})
	n := 0
	measure("a ban", "/v1/decisions/stream", 5*5*time.Millisecond, func() {
		n++
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(n)}), 32)
		if _, err := set.Ban(context.Background(), []store.BanRequest{{Prefix: p, Jail: "sshd", Until: store.At(time.Now().Add(time.Hour))}}); err != nil {
			t.Fatal(err)
		}
		s.Changed(store.Change{Events: []store.Event{{Kind: store.EventBan, Prefix: p}}})
	})
	measure("another change", "/v1/decisions/stream", 500*time.Millisecond, func() { s.Changed(someBans) })
}
